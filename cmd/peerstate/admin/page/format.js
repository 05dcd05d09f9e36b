// Figures and times as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

export const count = n => whole.format(n)

// figure shows three digits or so: 0.03, 1.2, 45, 1,234.
export function figure(x) {
  if (x === 0) return '0'
  if (x < 0.01) return '<0.01'
  if (x < 1) return String(Number(x.toPrecision(x < 0.1 ? 1 : 2)))
  return x < 10 ? x.toFixed(1) : whole.format(x)
}

// bytes gives [number, unit].
export function bytes(n) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  let i = 0
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i++ }
  return [i === 0 ? whole.format(n) : figure(n), units[i]]
}

// millis gives [number, unit] of a time in ms.
export function millis(ms) {
  if (ms < 0.1 && ms > 0) return [figure(1000 * ms), 'µs']
  return ms < 1000 ? [figure(ms), 'ms'] : [figure(ms / 1000), 's']
}

export const joined = ([number, unit]) => `${number} ${unit}`

// span shows a duration in seconds by its two largest units.
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min` + (s < 600 && s % 60 ? ` ${s % 60} s` : '')
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
  if (s < 60 * 86400) return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`
  return s < 730 * 86400 ? `${Math.round(s / 86400)} days` : `${(s / 86400 / 365.25).toFixed(1)} years`
}

// left shows how long something lasts yet, in days where it is more than two of them: in the nearest number, as the
// commands do, so that a certificate that was just made for 90 days has 90.
export function left(seconds) {
  if (seconds < 0) return `ended ${span(-seconds)} ago`
  const days = Math.round(seconds / 86400)
  if (days >= 730) return `${(days / 365.25).toFixed(1)} years left`
  return seconds >= 2 * 86400 ? `${days} days left` : `${span(seconds)} left`
}

const pad = n => String(n).padStart(2, '0')
export const clock = date => `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`
export const day = date => date.toLocaleDateString('en', { day: 'numeric', month: 'short', year: 'numeric' })

// moment is the time, with the day when it is not today.
export function moment(date, now) {
  return date.toDateString() === now.toDateString() ? clock(date)
    : `${date.toLocaleDateString('en', { day: 'numeric', month: 'short' })} ${clock(date)}`
}

export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`

const pen = document.createElement('canvas').getContext('2d')

// cut shortens a text of the pictures' size to some pixels.
export function cut(s, room, bold) {
  pen.font = `${bold ? 600 : 400} 12px ${getComputedStyle(document.body).fontFamily}`
  const wide = text => pen.measureText(text).width
  if (wide(s) <= room) return s
  let n = s.length - 1
  while (n > 1 && wide(s.slice(0, n) + '…') > room) n--
  return s.slice(0, n) + '…'
}
