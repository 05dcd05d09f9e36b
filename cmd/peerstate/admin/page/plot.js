// A small plot over the last minutes: SVG with both axes labelled.

import { h } from './dom.js'
import { clock } from './format.js'

export const minutes = 10
const tall = 118, small = 92, narrow = 240 // in a narrow place it is smaller, and says less
const top = 8, bottom = 20, leftEdge = 50, rightEdge = 6

// plot draws lines, [{name, of: sample => number or null, kind}], over samples. options: unit: value => text for the
// axis; log: the axis is logarithmic; whole: it has whole numbers only; ticks: just these; cursor: a time to mark.
export function plot(title, samples, lines, width, now, every, options) {
  const height = width < narrow ? small : tall
  const at = t => leftEdge + (width - leftEdge - rightEdge) * (1 - (now - t) / (minutes * 60000))
  const recent = samples.filter(s => now - s.at <= minutes * 60000)
  const values = recent.flatMap(s => lines.map(l => l.of(s))).filter(v => v !== null && v !== undefined)
  const ticks = options.log ? decades(values) : steps(values, options)
  const [low, high] = [ticks[0], ticks[ticks.length - 1]]
  const y = v => {
    const share = options.log ? Math.log(Math.max(v, low) / low) / Math.log(high / low) : (v - low) / (high - low)
    return height - bottom - (height - bottom - top) * Math.min(1, Math.max(0, share))
  }
  const shown = ticks.length > 4 ? ticks.filter((_, i) => (ticks.length - 1 - i) % 2 === 0) : ticks
  const grid = shown.map(v => [
    h('line', { class: 'grid', x1: leftEdge, x2: width - rightEdge, y1: y(v), y2: y(v) }),
    h('text', { class: 'tick', x: leftEdge - 6, y: y(v) + 3.5, 'text-anchor': 'end' }, options.unit(v)),
  ])
  const marks = [[minutes, `${minutes} min ago`, 'start'], [minutes / 2, `${minutes / 2} min ago`, 'middle'], [0, 'now', 'end']]
  const times = marks.filter(([m]) => width >= narrow || m !== minutes / 2).map(([m, words, anchor]) =>
    h('text', { class: 'tick', x: at(now - m * 60000), y: height - 5, 'text-anchor': anchor }, words))
  const drawn = lines.flatMap(l => curves(recent, l, at, y, every, lines.length === 1 && !options.log ? height - bottom : null))
  // What went wrong is to be seen beside large figures, too.
  const marked = lines.filter(l => l.kind === 'bad').flatMap(l => recent.filter(s => l.of(s)).map(s =>
    h('line', { class: 'wrong', x1: at(s.at), x2: at(s.at), y1: top, y2: height - bottom })))
  const cursor = options.cursor ? pointer(at(options.cursor), clock(new Date(options.cursor)), width, height) : null
  const nothing = values.length === 0
    ? h('text', { class: 'nothing', x: (leftEdge + width) / 2, y: (top + height - bottom) / 2 + 4, 'text-anchor': 'middle' },
      recent.length > 0 ? (width < narrow ? 'nothing' : 'nothing in these minutes') : width < narrow ? 'in a moment' : 'the first figures come in a moment') : null
  return h('svg', { class: 'plot', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': summary(title, values, options) },
    grid, marked, times, drawn, cursor, nothing)
}

// timeAt is the time under a point of a plot.
export const timeAt = (x, width, now) => now - (1 - (x - leftEdge) / (width - leftEdge - rightEdge)) * minutes * 60000

// pointer marks a time, and says which.
function pointer(x, words, width, height) {
  const right = x > width - 70
  return [h('line', { class: 'cursor', x1: x, x2: x, y1: 0, y2: height - bottom }),
    h('text', { class: 'tick halo', x: right ? x - 5 : x + 5, y: 9, 'text-anchor': right ? 'end' : 'start' }, words)]
}

function summary(title, values, options) {
  if (values.length === 0) return `${title}, over the last ${minutes} minutes: nothing`
  return `${title}, over the last ${minutes} minutes: from ${options.unit(Math.min(...values))} to ${options.unit(Math.max(...values))}`
}

// curves draws one line, in pieces: it ends where samples are missing, or had nothing to measure.
function curves(samples, line, at, y, every, floor) {
  const pieces = [[]]
  let before = 0
  for (const s of samples) {
    const v = line.of(s)
    if (v === null || v === undefined || s.at - before > 2.5 * every) pieces.push([])
    if (v !== null && v !== undefined) pieces[pieces.length - 1].push([at(s.at), y(v)])
    before = s.at
  }
  const point = ([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`
  return pieces.filter(p => p.length).flatMap(p => {
    const path = 'M' + p.map(point).join('L')
    if (p.length === 1) return h('circle', { class: `dot ${line.kind}`, cx: p[0][0], cy: p[0][1], r: 1.5 })
    const filled = floor === null ? null : h('path', { class: `area ${line.kind}`, d: `${path}L${p[p.length - 1][0].toFixed(1)} ${floor}L${p[0][0].toFixed(1)} ${floor}Z` })
    return [filled, h('path', { class: `line ${line.kind}`, d: path })]
  })
}

// steps are round values from 0 to above the largest.
function steps(values, options) {
  if (options.ticks) return options.ticks
  const max = Math.max(...values, 4)
  const rough = max / 3
  const size = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map(m => m * size).find(s => s >= rough && (!options.whole || s >= 1 && s % 1 === 0)) ?? Math.ceil(rough)
  const ticks = []
  for (let v = 0; v < max + step * 0.999; v += step) ticks.push(v)
  return ticks
}

// decades are powers of ten around the values: at least two of them.
function decades(values) {
  const [min, max] = values.length ? [Math.min(...values), Math.max(...values)] : [0.01, 100]
  let from = Math.floor(Math.log10(Math.max(min, 0.001))), to = Math.ceil(Math.log10(Math.max(max, 0.001)))
  while (to - from < 2) { to++; if (to - from < 2) from-- }
  const ticks = []
  for (let e = from; e <= to; e++) ticks.push(Number((10 ** e).toPrecision(1)))
  return ticks
}
