// What is known of another node, as a mark, a word and a colour: never a colour alone.

import { h } from './dom.js'

// kinds of the states: good, soon (it may come right by itself), bad, gone (nothing is wrong).
export const kinds = { self: 'good', up: 'good', suspect: 'soon', connecting: 'soon', out: 'bad', lost: 'bad', refused: 'bad', drained: 'gone' }
export const kindOf = state => kinds[state] ?? 'soon'

// mark is drawn around x, y: full for up, a half for suspect, dashed for connecting, crossed for out and lost, barred
// for refused, empty for drained.
export function mark(state, x, y, r) {
  const d = 0.55 * r
  const inside = {
    good: [],
    soon: state === 'suspect' ? [h('path', { class: 'fill', d: `M${x} ${y - r}A${r} ${r} 0 0 1 ${x} ${y + r}Z` })] : [],
    bad: state === 'refused' ? [h('line', { x1: x - d, y1: y, x2: x + d, y2: y })]
      : [h('line', { x1: x - d, y1: y - d, x2: x + d, y2: y + d }), h('line', { x1: x - d, y1: y + d, x2: x + d, y2: y - d })],
    gone: [],
  }[kindOf(state)]
  return h('g', { class: `mark ${kindOf(state)} ${state}` }, h('circle', { cx: x, cy: y, r }), inside)
}

export const icon = state => h('svg', { class: 'icon', width: 14, height: 14, viewBox: '0 0 14 14', 'aria-hidden': 'true' }, mark(state, 7, 7, 5))

// sign marks a piece of news: info, warn, error, or good.
export function sign(level) {
  const drawn = {
    good: [h('circle', { cx: 7, cy: 7, r: 5.5 }), h('path', { d: 'M4.4 7.2 6.3 9.1 9.8 5.2' })],
    info: [h('circle', { class: 'fill', cx: 7, cy: 7, r: 2.2 })],
    warn: [h('path', { d: 'M7 1.8 13 12.4H1Z' }), h('path', { d: 'M7 5.6V8.6M7 10.2V10.9' })],
    error: [h('circle', { cx: 7, cy: 7, r: 5.5 }), h('path', { d: 'M4.8 4.8 9.2 9.2M4.8 9.2 9.2 4.8' })],
  }[level] ?? []
  return h('svg', { class: `sign ${level}`, width: 14, height: 14, viewBox: '0 0 14 14', 'aria-hidden': 'true' }, drawn)
}

// all gives this node and its peers alike, this one first and the others by site and name. Their places on the map depend
// on nothing else, so they stay where they are while states change.
export function all(page) {
  const s = page.status, own = s.certificate
  const self = {
    name: s.node, site: s.site, state: 'self', reason: '', rtt: null, hops: 0, sessions: s.sessions.active, since: null, issuer: page.issuer,
    expires: own?.expires ?? null, rotation: page.rotation_self, self: true, addr: '',
  }
  const peers = s.peers.map(p => ({
    name: p.node || p.addr, site: p.site, state: p.state, reason: p.reason, rtt: p.rtt_ms, hops: p.hops, sessions: p.sessions, since: p.since,
    issuer: p.issuer, expires: p.cert_expires, rotation: p.rotation, self: false, addr: p.addr,
  }))
  const bySite = (a, b) => (b.site === s.site) - (a.site === s.site) || (a.site === '') - (b.site === '') || compare(a.site, b.site) || compare(a.name, b.name)
  return [self, ...peers.sort(bySite)]
}

const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0
