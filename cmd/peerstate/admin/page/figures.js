// The cards with a figure each, and its plot over the last minutes.

import { h, show } from './dom.js'
import { bytes, count, figure, joined, millis, plural } from './format.js'
import { plot, timeAt } from './plot.js'

let cursor = null // a time that somebody points at, in all plots

const smooth = 5 // samples that a figure for "now" is of

const mean = (samples, of) => samples.reduce((sum, s) => sum + of(s), 0) / Math.max(samples.length, 1)
const middle = (samples, of) => {
  const values = samples.map(of).filter(v => v !== null).sort((a, b) => a - b)
  return values.length ? values[Math.floor(values.length / 2)] : null
}
const worst = (samples, of) => samples.map(of).reduce((a, b) => b === null ? a : a === null ? b : Math.max(a, b), null)

// Each gives for some samples, the last of which is the one shown: value: [number, unit]; note: a line under it.
const cards = [
  {
    title: 'Sessions held', lines: [{ of: s => s.held, kind: 'first' }], unit: short, options: { whole: true },
    value: (all, s) => [count(s.held), ''],
    note: (all, s, page) => [
      joined(bytes(s.bytes)), page.status.farm ? ` · keeps ${plural(s.backups, 'backup', 'backups')}` : '',
      page.status.memory?.limit ? h('span', { class: page.status.memory.refusing ? 'bad' : null }, ` · memory ${Math.floor(100 * page.status.memory.used / page.status.memory.limit)}%`) : '',
    ],
  },
  {
    title: 'Requests', lines: [{ of: s => s.req, kind: 'first', name: 'all' }, { of: s => s.ref || null, kind: 'bad', name: 'not answered' }], unit: short,
    value: all => [figure(mean(all, s => s.req)), 'a second'],
    note: all => {
      const refused = mean(all, s => s.ref), locked = mean(all, s => s.lock)
      if (refused > 0) return h('span', { class: 'bad' }, `${figure(refused)} a second not answered`)
      return locked > 0 ? `${figure(locked)} a second told “locked”` : 'all answered'
    },
  },
  {
    title: 'Answer time', log: true, unit: time, lines: [{ of: s => s.p50, kind: 'first', name: 'half' }, { of: s => s.p99, kind: 'second', name: '99%' }],
    value: all => typical(all, s => s.p50),
    note: all => two('half of the requests', '99% within ', all, s => s.p99),
  },
  {
    title: 'Waiting', lines: [{ of: s => s.waiting, kind: 'first' }], unit: short, options: { whole: true },
    value: (all, s) => [count(s.waiting), 'now'],
    note: all => {
      const w = worst(all, s => s.wait99)
      return w === null ? 'for a session that is locked' : `for a session; 99% within ${joined(millis(w))}`
    },
  },
  {
    title: 'Answered here', farm: true, unit: v => `${v}%`, lines: [{ of: s => s.here === null ? null : 100 * s.here, kind: 'first' }], options: { ticks: [0, 50, 100] },
    value: all => {
      const asked = all.reduce((n, s) => n + s.fetch, 0), of = all.reduce((n, s) => n + s.req, 0)
      return of === 0 ? ['–', ''] : [Math.max(0, 100 * (1 - asked / of)).toFixed(1), '%']
    },
    note: () => 'of the requests, asking no other node',
  },
  {
    title: 'Questions to other nodes', farm: true, unit: short,
    lines: [{ of: s => s.fetch, kind: 'first', name: 'all' }, { of: s => s.unknown || null, kind: 'bad', name: 'nobody could say' }],
    value: all => [figure(mean(all, s => s.fetch)), 'a second'],
    note: all => {
      const unknown = mean(all, s => s.unknown)
      if (unknown > 0) return h('span', { class: 'bad' }, `${figure(unknown)} a second: nobody could say`)
      return `${figure(mean(all, s => s.came))} a second brought a session`
    },
  },
  {
    title: 'Time until they answer', farm: true, log: true, unit: time,
    lines: [{ of: s => s.fetch50, kind: 'first', name: 'half' }, { of: s => s.fetch99, kind: 'second', name: '99%' }],
    value: all => typical(all, s => s.fetch50),
    note: all => two('half of the questions', '99% within ', all, s => s.fetch99),
  },
  {
    title: 'Not safe yet', farm: true, unit: short, lines: [{ of: s => s.pending, kind: 'first' }], options: { whole: true },
    value: (all, s) => [count(s.pending), s.pending === 1 ? 'session' : 'sessions'],
    note: (all, s, page) => {
      if (page.wanted_backups === 0) return 'backups are switched off'
      if (page.keepers < page.wanted_backups) return h('span', { class: 'soon' }, 'too few other nodes can keep backups')
      return s.pending === 0 ? 'a crash now loses nothing' : `the oldest change waits for ${joined(millis(1000 * s.pendfor))}`
    },
  },
]

function short(v) {
  if (v >= 1e6) return `${figure(v / 1e6)}M`
  return v >= 1e4 ? `${figure(v / 1e3)}k` : v < 10 && v % 1 ? String(Number(v.toFixed(2))) : count(v)
}

function time(ms) {
  if (ms < 0.1) return `${Number((1000 * ms).toPrecision(1))} µs`
  return ms >= 1000 ? `${ms / 1000} s` : `${ms} ms`
}

const typical = (all, of) => {
  const m = middle(all, of)
  return m === null ? ['–', ''] : millis(m)
}

const two = (half, most, all, of) => {
  const w = worst(all, of)
  return w === null ? 'nothing to measure' : [half, `; ${most}`, joined(millis(w))]
}

// figures shows all cards.
export function figures(element, page, samples) {
  const now = Date.parse(page.now)
  const some = cards.filter(c => !c.farm || page.status.farm)
  element.dataset.cards = some.length
  if (!element.firstChild) show(element, some.map(() => h('div', { class: 'card figure' }, h('h2'), h('p'), h('p'), h('div', { class: 'plotted' })))) // to measure
  const width = Math.max(140, element.querySelector('.plotted').clientWidth)
  let until = samples.length - 1
  if (cursor !== null) until = samples.findLastIndex(s => s.at <= cursor + 1000 * page.every_seconds)
  const last = samples[until]
  const recent = cursor === null ? samples.slice(Math.max(0, until + 1 - smooth), until + 1) : samples.slice(until, until + 1)
  show(element, some.map(c => card(c, page, samples, recent, last, width, now)))
}

function card(c, page, samples, recent, last, width, now) {
  const [number, unit] = last ? c.value(recent, last, page) : ['–', '']
  const named = c.lines.filter(l => l.name)
  return h('div', { class: 'card figure' },
    h('h2', {}, c.title),
    h('p', { class: 'value' }, number, unit ? h('span', { class: 'unit' }, ` ${unit}`) : null),
    h('p', { class: 'muted note' }, last ? c.note(recent, last, page) : '\u00a0'),
    h('div', { class: 'plotted' }, plot(c.title, samples, c.lines, width, now, 1000 * page.every_seconds, { unit: c.unit, log: c.log, cursor, ...c.options })),
    h('p', { class: 'legend muted' }, named.length ? named.map(l => h('span', {}, key(l.kind), l.name)) : '\u00a0'))
}

function key(kind) {
  return h('svg', { width: 18, height: 8, 'aria-hidden': 'true' }, h('line', { class: `line ${kind}`, x1: 1, x2: 17, y1: 4, y2: 4 }))
}

// pointing has all plots follow a pointer over one of them.
export function pointing(element, now, again) {
  element.addEventListener('pointermove', e => {
    const svg = e.target.closest('.plot')
    const next = svg ? Math.min(now(), timeAt(e.clientX - svg.getBoundingClientRect().left, svg.clientWidth, now())) : null
    if (next !== cursor) { cursor = next; again() }
  })
  element.addEventListener('pointerleave', () => {
    if (cursor !== null) { cursor = null; again() }
  })
}
