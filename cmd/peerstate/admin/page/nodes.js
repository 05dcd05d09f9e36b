// The table of nodes.

import { h, show } from './dom.js'
import { count, joined, left, millis, plural, span } from './format.js'
import { icon, kindOf } from './states.js'

const few = 8 // up to so many there is a second line for each

export function nodes(element, page, all) {
  const now = Date.parse(page.now)
  element.classList.toggle('scrolled', all.length > few)
  if (!page.status.farm) {
    show(element, h('p', { class: 'empty' }, 'This node runs stand-alone: it has no certificates, and links to nobody. Sessions are on this machine only. ',
      'PEERSTATE_CERT_DIR makes it part of a farm.'))
    return
  }
  show(element, h('table', { class: all.length > few ? 'many' : null },
    h('thead', {}, h('tr', {}, ['Node', 'State', 'Round trip', 'Sessions', 'Certificate'].map((t, i) => h('th', { scope: 'col', class: i > 1 ? 'number' : '' }, t)))),
    h('tbody', {}, all.map(n => row(n, now)))),
  all.length === 1 ? h('p', { class: 'empty' }, 'No other node is known yet. Invite one with “peerstate cert token NODE”, or name one in PEERSTATE_PEERS.') : null)
}

function row(n, now) {
  const details = [n.site, n.issuer ? 'issuer' : ''].filter(Boolean).join('\u00a0·\u00a0')
  return h('tr', { class: `is-${kindOf(n.state)}` },
    h('td', { class: 'who' }, icon(n.state), h('span', { class: 'name' }, n.name), details ? h('span', { class: 'muted below' }, details) : null),
    h('td', { class: 'how' }, h('span', { class: 'word' }, n.self ? 'this node' : n.state),
      h('span', { class: 'muted below' }, n.since ? `for ${span((now - Date.parse(n.since)) / 1000)}` : '\u00a0', n.reason ? `: ${n.reason}` : '')),
    h('td', { class: 'number trip' }, n.rtt !== null ? [onPhone('round trip '), joined(millis(n.rtt))] : n.hops > 1 ? `over ${n.hops} links` : '–'),
    h('td', { class: 'number' }, n.sessions === null ? '–' : count(n.sessions), onPhone(n.sessions === 1 ? ' session' : ' sessions')),
    h('td', { class: 'number' }, certificate(n, now)))
}

// onPhone are words that stand only where the table has no head.
const onPhone = words => h('span', { class: 'unit-phone' }, words)

// soon is when a certificate's end is worth a colour: a node renews it much earlier.
const soon = 7 * 86400

function certificate(n, now) {
  if (!n.expires) return '–'
  const seconds = (Date.parse(n.expires) - now) / 1000
  const kind = seconds < 0 ? 'bad' : seconds < soon ? 'soon' : ''
  return [onPhone('certificate '), h('span', { class: kind }, left(seconds)), n.rotation ? h('span', { class: `below ${n.rotation === 'done' ? 'good' : 'soon'}` }, `new CA: ${n.rotation === 'done' ? '✓\u00a0done' : n.rotation}`) : null]
}

// summary says in two lines how the farm is.
export function summary(page, all, missing) {
  if (!page.status.farm) return ['no peers']
  const down = all.filter(n => !['self', 'up', 'drained'].includes(n.state))
  const counted = `${plural(all.length, 'node', 'nodes')} · ${plural(page.status.links.length, 'link', 'links')}`
  const some = (list, most) => list.slice(0, most).join(', ') + (list.length > most ? ', …' : '')
  const wrong = []
  if (down.length) wrong.push(`not up: ${some(down.map(n => n.name), 4)}`)
  if (missing.length) wrong.push(`no link: ${some(missing.map(l => l.join('–')), 2)}`)
  const fine = all.length === 1 ? 'alone until another node joins' : page.mesh === 'auto' ? 'all linked with all' : 'all up'
  const gone = all.filter(n => n.state === 'drained')
  const left = gone.length ? ` · drained: ${some(gone.map(n => n.name), 4)}` : ''
  return [h('span', { class: 'below' }, counted), h('span', { class: wrong.length ? 'below bad' : 'below' }, (wrong.join(' · ') || fine) + left)]
}
