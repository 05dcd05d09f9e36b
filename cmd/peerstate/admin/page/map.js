// The farm as a picture: its nodes on a circle, those of one site side by side, and the links between them.

import { h, show } from './dom.js'
import { cut, joined, millis, plural, span } from './format.js'
import { kindOf, mark } from './states.js'

let focus = '' // a node that somebody points at

const few = 8 // up to so many nodes there is room for two lines beside each
const line = 14
const radialMargin = 92 // for the names around a large farm

// map draws it. missing are links that there should be: pairs of names.
export function map(element, page, nodes, missing) {
  const width = Math.max(280, Math.min(620, element.clientWidth || 480))
  const place = layout(nodes, width)
  const known = new Map(place.nodes.map(n => [n.name, n]))
  const links = page.status.links.filter(l => known.has(l.a) && known.has(l.b))
  const drawn = [
    place.sites.map(s => h('path', { class: 'site', d: s.path }, h('title', {}, s.name))),
    links.map(l => link(known.get(l.a), known.get(l.b), place, l.a === page.status.node || l.b === page.status.node ? 'own' : 'other')),
    missing.map(([a, b]) => link(known.get(a), known.get(b), place, 'missing')),
    links.map(l => trip(l, known, place, nodes.length)),
    place.nodes.map(n => node(n, page, nodes.length, width)),
    place.sites.filter(s => s.label).map(s => h('text', { class: 'site-name halo', x: s.label[0], y: s.label[1], 'text-anchor': 'middle' }, cut(s.name, s.room, true))),
  ]
  show(element, h('svg', {
    class: focus ? 'map focused' : 'map', width, height: place.height, viewBox: `0 0 ${width} ${place.height}`, role: 'img',
    'aria-label': `Map of the farm: ${plural(nodes.length, 'node', 'nodes')}, ${plural(links.length, 'link', 'links')}. The table has the details.`,
  }, drawn), legend(page, links, missing, nodes.length))
}

// layout gives each node its place, and each site of several nodes its arc.
function layout(nodes, width) {
  if (nodes.length === 1) {
    const height = 96
    return { height, center: [width / 2, 34], curved: false, sites: [], nodes: [{ ...nodes[0], x: width / 2, y: 34, angle: Math.PI / 2}] }
  }
  const radial = nodes.length > few
  const margin = radial ? radialMargin : 104
  const rx = Math.max(60, Math.min(width, radial ? 540 : 560) / 2 - margin)
  const ry = radial ? rx : nodes.length === 2 ? 0 : Math.min(Math.max(0.8 * rx, 90), 150)
  const sites = groups(nodes)
  const gap = sites.length > 1 && nodes.length > sites.length ? 0.7 : 0 // between sites, in places
  const step = 2 * Math.PI / (nodes.length + gap * sites.length)
  let angle = nodes.length === 2 ? Math.PI : -Math.PI / 2
  const above = radial ? margin : nodes.length === 2 ? 48 : 52 // room for a name and a line
  const center = [width / 2, above + ry]
  const result = { center, curved: radial, sites: [], nodes: [] }
  const point = (a, f = 1) => [center[0] + f * rx * Math.cos(a), center[1] + f * ry * Math.sin(a)]
  for (const group of sites) {
    const begun = angle
    for (const n of group.nodes) {
      const [x, y] = point(angle)
      result.nodes.push({ ...n, x, y, angle, radial })
      angle += step
    }
    if (group.nodes.length > 1 && group.name) {
      const [from, to] = [begun - 0.3 * step, angle - 0.7 * step]
      const [x1, y1] = point(from), [x2, y2] = point(to)
      const site = { name: group.name, path: `M${x1} ${y1}A${rx} ${ry} 0 ${to - from > Math.PI ? 1 : 0} 1 ${x2} ${y2}` }
      if (radial) { // in a small farm it stands beside each node
        const [x, y] = point((from + to) / 2, 0.74)
        Object.assign(site, { label: [x, y + 4], room: Math.max(72, 2 * (rx - 8 - Math.abs(x - center[0]))) })
      }
      result.sites.push(site)
    }
    angle += gap * step
  }
  const below = n => nodes.length === 2 ? 44 : sideways(n) ? 34 : 66 // room for a name and two lines
  result.height = Math.round(radial ? center[1] + ry + margin : Math.max(...result.nodes.map(n => n.y + below(n))))
  return result
}

function groups(nodes) {
  const found = []
  for (const n of nodes) {
    const last = found[found.length - 1]
    if (last && last.name === n.site) last.nodes.push(n)
    else found.push({ name: n.site, nodes: [n] })
  }
  return found
}

// bend is the point that a link is bent towards, and its middle.
function bend(a, b, place, share = 0.5) {
  const mid = [(a.x + b.x) / 2, (a.y + b.y) / 2]
  const to = place.curved ? [mid[0] + 0.55 * (place.center[0] - mid[0]), mid[1] + 0.55 * (place.center[1] - mid[1])] : mid
  const t = share, u = 1 - share
  return { to, at: [u * u * a.x + 2 * u * t * to[0] + t * t * b.x, u * u * a.y + 2 * u * t * to[1] + t * t * b.y] }
}

function link(a, b, place, kind) {
  const { to } = bend(a, b, place)
  const touched = focus === a.name || focus === b.name
  return h('path', { class: `link ${kind}${touched ? ' touched' : ''}`, d: `M${a.x} ${a.y}Q${to[0]} ${to[1]} ${b.x} ${b.y}` },
    kind === 'missing' ? h('title', {}, `no link between ${a.name} and ${b.name}`) : null)
}

// trip is a link's round-trip time: in a small farm always, in a large one at the node that somebody points at.
function trip(l, known, place, size) {
  const a = known.get(l.a), b = known.get(l.b)
  const touched = focus === a.name || focus === b.name
  if (l.rtt_ms === null || !(size <= 4 || touched)) return null
  const share = focus === a.name ? 0.62 : focus === b.name ? 0.38 : size === 4 ? 0.36 : 0.5
  const { at } = bend(a, b, place, share)
  const above = Math.abs(a.y - b.y) < 24 ? -7 : 4 // a level link would show between the words
  return h('text', { class: 'trip halo', x: at[0], y: at[1] + above, 'text-anchor': 'middle' }, joined(millis(l.rtt_ms)))
}

function node(n, page, size, width) {
  const r = size > few ? 5.5 : 8
  const touched = focus === n.name
  const lines = labels(n, page, size)
  return h('g', { class: `node ${kindOf(n.state)}${n.self ? ' self' : ''}${touched ? ' touched' : ''}`, 'data-node': n.name },
    h('circle', { class: 'target', cx: n.x, cy: n.y, r: r + 9 }),
    n.self ? h('circle', { class: 'ring', cx: n.x, cy: n.y, r: r + 4 }) : null,
    mark(n.state, n.x, n.y, r),
    n.radial ? outward(n, r + 9, lines[0]) : beside(n, r + 8, lines, width),
    h('title', {}, [lines.join(', '), n.reason].filter(Boolean).join(': ')))
}

// labels: the name; then the site and what matters most of it.
function labels(n, page, size) {
  const state = n.self ? (page.status.farm ? 'this node' : 'stand-alone')
    : n.state !== 'up' ? n.state + (n.since && n.state !== 'drained' ? ` for ${roughly((Date.parse(page.now) - Date.parse(n.since)) / 1000)}` : '')
      : n.hops > 1 ? `over ${n.hops} links` : size > 4 && n.rtt !== null ? joined(millis(n.rtt)) : ''
  return [n.name, n.site, state].filter(Boolean)
}

const roughly = seconds => span(seconds).split(' ').slice(0, 2).join(' ')

// outward writes a name away from the centre of a large farm.
function outward(n, distance, name) {
  const left = Math.cos(n.angle) < -1e-9
  const degrees = n.angle * 180 / Math.PI + (left ? 180 : 0)
  return h('text', { class: 'name', x: left ? -distance : distance, y: 4, 'text-anchor': left ? 'end' : 'start',
    transform: `translate(${n.x.toFixed(1)} ${n.y.toFixed(1)}) rotate(${degrees.toFixed(1)})` }, cut(name, radialMargin - distance, true))
}

// sideways tells whether a node's lines stand to its left or right.
const sideways = n => Math.abs(Math.cos(n.angle)) > 0.3

// beside writes two or three lines to the side of a node that is away from the centre.
function beside(n, distance, lines, width) {
  const c = Math.cos(n.angle), s = Math.sin(n.angle)
  const anchor = !sideways(n) ? 'middle' : c > 0 ? 'start' : 'end'
  const x = n.x + (anchor === 'start' ? distance : anchor === 'end' ? -distance : 0)
  const text = anchor === 'middle' && s < 0 ? [lines[0], lines.slice(1).join(' · ')] : lines
  const height = line * (text.length - 1)
  const y = anchor !== 'middle' ? n.y + 4 - height / 2 : s < 0 ? n.y - distance - height - 1 : n.y + distance + 11
  const room = anchor === 'start' ? width - x : anchor === 'end' ? x : Math.min(2 * x, 2 * (width - x))
  return text.map((words, i) => h('text', { class: i === 0 ? 'name' : 'detail', x, y: y + line * i, 'text-anchor': anchor }, cut(words, room, i === 0)))
}

function legend(page, links, missing, size) {
  if (size === 1) return h('p', { class: 'legend muted' }, '\u00a0')
  const sample = kind => h('svg', { width: 22, height: 8, 'aria-hidden': 'true' }, h('line', { class: `link ${kind}`, x1: 1, x2: 21, y1: 4, y2: 4 }))
  return h('p', { class: 'legend muted' },
    h('span', {}, sample('own'), 'links of this node'),
    h('span', {}, sample('other'), 'other links'),
    h('span', { class: missing.length ? '' : 'hidden' }, sample('missing'), 'missing'))
}

// pointing has the map show the links of the node under the pointer.
export function pointing(element, again) {
  const point = name => {
    if (name !== focus) { focus = name; again() }
  }
  element.addEventListener('pointerover', e => point(e.target.closest('[data-node]')?.dataset.node ?? ''))
  element.addEventListener('pointerleave', () => point(''))
}

// missingLinks are those that there are not although both nodes are up and all are to link with all.
export function missingLinks(page, nodes) {
  if (page.mesh !== 'auto') return []
  const there = new Set(page.status.links.map(l => `${l.a}\n${l.b}`))
  const up = nodes.filter(n => ['self', 'up', 'suspect'].includes(n.state)).map(n => n.name).sort()
  return up.flatMap((a, i) => up.slice(i + 1).map(b => [a, b])).filter(([a, b]) => !there.has(`${a}\n${b}`) && !there.has(`${b}\n${a}`))
}
