// Certificates, sessions that stand out, and events.

import { h, show } from './dom.js'
import { bytes, count, day, joined, left, millis, moment, plural, span } from './format.js'
import { sign } from './states.js'

// certificates shows when those of this node end, and how far the replacement of the CA is.
export function certificates(element, page, all) {
  const c = page.status.certificate
  if (!c) {
    show(element, h('p', { class: 'empty' }, 'None: this node runs stand-alone.'))
    return
  }
  const now = Date.parse(page.now)
  show(element, h('dl', {},
    h('dt', {}, 'This node'), h('dd', {}, ending(c.expires, now, 7), h('span', { class: 'muted below' }, `until ${day(new Date(c.expires))} · serial ${c.serial.slice(0, 16)}`)),
    h('dt', {}, 'Farm’s CA'), h('dd', {}, ending(c.ca_expires, now, 90), h('span', { class: 'muted below' }, `until ${day(new Date(c.ca_expires))} · key ${c.issuer_key.slice(0, 8)}`)),
    h('dt', {}, 'Renewal'), h('dd', {}, issuer(all)),
    h('dt', {}, 'Replacing the CA'), h('dd', {}, rotation(page, all))))
}

function ending(at, now, soonDays) {
  const seconds = (Date.parse(at) - now) / 1000
  return h('span', { class: seconds < 0 ? 'bad strong' : seconds < soonDays * 86400 ? 'soon strong' : 'strong' }, left(seconds))
}

function issuer(all) {
  const i = all.find(n => n.issuer && ['self', 'up'].includes(n.state)) ?? all.find(n => n.issuer) // a restored one has two names
  const note = words => h('span', { class: 'muted below' }, words)
  if (!i) return [h('span', { class: 'soon strong' }, 'no issuer is known'), note('nobody renews certificates: issue new ones in time, or give the farm an issuer (PEERSTATE_CA_DIR)')]
  return [h('span', { class: 'strong' }, i.self ? 'this node is the issuer' : i.state === 'up' ? `${i.name} is the issuer` : `${i.name} is the issuer, and is ${i.state}`),
    note('by itself, with a third of its life left')]
}

const stages = [['trust', 'trust the new CA'], ['renew', 'renew with it'], ['drop', 'drop the old CA']]

function rotation(page, all) {
  const stage = page.status.certificate.rotation
  if (!stage) return h('span', { class: 'muted' }, 'not under way')
  const at = stages.findIndex(s => s[0] === stage)
  const done = all.filter(n => n.rotation === 'done'), waiting = all.filter(n => n.rotation !== 'done')
  return [
    h('ol', { class: 'stages' }, stages.map(([name, words], i) =>
      h('li', { class: i < at ? 'past' : i === at ? 'present' : 'future', 'aria-current': i === at ? 'step' : null }, h('span', { class: 'step' }, i < at ? '✓' : String(i + 1)), words))),
    h('span', { class: 'muted below' }, `${done.length} of ${plural(all.length, 'node', 'nodes')} done`,
      waiting.length ? `; waiting for ${waiting.slice(0, 5).map(n => `${n.name} (${why(n)})`).join(', ')}${waiting.length > 5 ? ', …' : ''}` : ''),
  ]
}

const why = n => ['self', 'up'].includes(n.state) ? n.rotation || 'not heard of yet' : n.state

// contended shows the sessions whose locks were met most.
export function contended(element, page) {
  const over = span(page.contended_seconds)
  const list = page.contended.slice(0, 5)
  show(element, h('h2', {}, 'Most contended sessions'),
    h('p', { class: 'muted' }, `Requests of this node that met a lock, over the last ${over}.`),
    list.length === 0 ? h('p', { class: 'empty' }, 'None has.') : h('table', {},
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Session'), ['Met', 'Longest wait', 'Waiting now', 'Locked for'].map(t => h('th', { scope: 'col', class: 'number' }, t)))),
      h('tbody', {}, list.map(c => h('tr', {}, h('td', {}, h('code', {}, c.hash)), h('td', { class: 'number' }, count(c.met)), h('td', { class: 'number' }, joined(millis(c.longest_ms))),
        h('td', { class: 'number' }, count(c.waiting)), h('td', { class: 'number' }, c.locked_ms > 0 ? joined(millis(c.locked_ms)) : '–'))))))
}

// largest shows the sessions that take most room.
export function largest(element, page) {
  const list = (page.status.largest ?? []).slice(0, 5)
  show(element, h('h2', {}, 'Largest sessions'),
    list.length === 0 ? h('p', { class: 'empty' }, 'None is held.') : h('table', {},
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Session'), h('th', { scope: 'col', class: 'number' }, 'Size'))),
      h('tbody', {}, list.map(l => h('tr', {}, h('td', {}, h('code', {}, l.hash)), h('td', { class: 'number' }, joined(bytes(l.bytes))))))))
}

// events shows what was logged.
export function events(element, page) {
  const now = new Date(page.now)
  if (page.events.length === 0) {
    show(element, h('p', { class: 'empty' }, 'Nothing has happened yet.'))
    return
  }
  show(element, h('ul', { class: 'events', tabindex: 0, 'aria-label': 'Events' }, page.events.map(e =>
    h('li', { class: e.level }, h('time', { datetime: e.at }, moment(new Date(e.at), now)), sign(e.level),
      h('span', { class: 'text' }, e.level === 'info' ? null : h('span', { class: 'level' }, e.level === 'error' ? 'Error: ' : 'Warning: '), e.text,
        e.times > 1 ? h('span', { class: 'times' }, ` ×${count(e.times)}`) : null,
        e.details.length ? h('span', { class: 'muted below' }, e.details.map((d, i) => [i ? ' · ' : '', d.name.replaceAll('_', ' '), ' ', h('b', {}, d.value)])) : null)))))
}
