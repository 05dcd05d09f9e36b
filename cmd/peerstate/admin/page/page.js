// The page asks its sidecar every two seconds, and shows what it says. It keeps the samples of the last minutes, and asks
// for those that it does not have.

import { clean, h, show } from './dom.js'
import { clock, span } from './format.js'
import { figures, pointing as pointingAtPlots } from './figures.js'
import { map, missingLinks, pointing as pointingAtMap } from './map.js'
import { nodes, summary } from './nodes.js'
import { certificates, contended, events, largest } from './details.js'
import { all, sign } from './states.js'

const every = 2000, patience = 5000, keep = 300
const $ = id => document.getElementById(id)

let page = null // the newest answer
let samples = []
let answered = null // when it came
let failed = '' // why there is none since

async function ask() {
  const after = samples.length ? samples[samples.length - 1].n : 0
  try {
    const answer = await fetch(`api/page?after=${after}`, { signal: AbortSignal.timeout(patience), cache: 'no-store' })
    if (!answer.ok) throw new Error(`the sidecar answers ${answer.status}`)
    const next = await answer.json()
    if (page && page.run !== next.run && after > 0) { // it has started anew: its samples begin with 1
      samples = []
      page = null
      return ask()
    }
    page = next
    samples = [...samples, ...next.samples].slice(-keep)
    answered = new Date()
    failed = ''
  } catch (e) {
    failed = e.name === 'TimeoutError' || e instanceof TypeError ? 'no answer' : e.message
  }
  draw()
}

function draw() {
  document.body.classList.toggle('stale', failed !== '' && page !== null)
  if (!page) {
    if (failed) show($('ready'), sign('error'), `No answer from the sidecar: ${failed}.`)
    return
  }
  const list = all(page), missing = missingLinks(page, list)
  head()
  figures($('figures'), page, samples)
  show($('farm-note'), summary(page, list, missing))
  map($('map'), page, list, missing)
  show($('nodes-note'), page.status.farm ? 'As this node sees them; round trips from here.' : '')
  nodes($('node-table'), page, list)
  certificates($('certificate-list'), page, list)
  contended($('contended'), page)
  largest($('largest'), page)
  events($('event-list'), page)
}

function head() {
  const s = page.status
  document.title = `${clean(s.node)}: ${failed ? 'no answer' : page.reason ? 'not ready' : 'ready'} – peerstate`
  show($('node'), s.node)
  show($('about'), [s.site, s.farm ? `farm ${s.farm}` : 'stand-alone', `up ${span(s.uptime_seconds)}`, `peerstate ${s.version}`].filter(Boolean).join(' · '))
  const n = page.warnings.length
  const [kind, word] = page.reason ? ['error', 'Not ready'] : n ? ['warn', `Ready, with ${n === 1 ? 'a warning' : `${n} warnings`}`] : ['good', 'Ready']
  $('ready').className = kind
  show($('ready'), sign(kind), h('span', {}, word))
  $('updated').classList.toggle('bad', failed !== '')
  show($('updated'), failed ? `${failed} since ${clock(answered)}: this is old` : `updated ${clock(answered)}`)
  show($('warnings'), page.reason ? h('li', { class: 'error' }, sign('error'), h('span', {}, page.reason)) : null,
    page.warnings.map(w => h('li', { class: 'warn' }, sign('warn'), h('span', {}, w))))
}

async function keepAsking() {
  for (;;) {
    if (!document.hidden) await ask()
    await new Promise(resume => setTimeout(resume, every))
  }
}

let drawing = false
function drawSoon() {
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => { drawing = false; if (page) draw() })
}

pointingAtPlots($('figures'), () => Date.parse(page?.now ?? 0), drawSoon)
pointingAtMap($('map'), drawSoon)
addEventListener('resize', drawSoon)
document.addEventListener('visibilitychange', () => { if (!document.hidden) ask() })
keepAsking()
