// Elements. All text gets into the page as text nodes, so what comes from other nodes is never read as HTML.

const svgTags = new Set(['svg', 'g', 'path', 'line', 'circle', 'text', 'tspan', 'title', 'rect'])

// clean shows characters that would turn the direction of the text around them.
export const clean = child => typeof child === 'string' ? child.replace(/[\u0000-\u0008\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd') : child

// h makes an element. Children may be elements, texts, arrays of those, or null.
export function h(tag, attributes, ...children) {
  const e = svgTags.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) e.setAttribute(name, value === true ? '' : clean(String(value)))
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) e.append(clean(child))
  }
  return e
}

// show makes an element have these children. What is the same already stays, so selected text, the focus, and where
// somebody has scrolled to stay too.
export function show(element, ...children) {
  const next = element.cloneNode(false)
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) next.append(clean(child))
  }
  morphChildren(element, next)
}

function morphChildren(old, next) {
  const wanted = [...next.childNodes]
  wanted.forEach((child, i) => {
    const there = old.childNodes[i]
    if (!there) old.append(child)
    else if (there.nodeName !== child.nodeName) there.replaceWith(child)
    else if (there.nodeType === Node.TEXT_NODE) {
      if (there.data !== child.data) there.data = child.data
    } else morph(there, child)
  })
  while (old.childNodes.length > wanted.length) old.lastChild.remove()
}

function morph(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name)) old.removeAttribute(name)
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value)
  }
  morphChildren(old, next)
}
