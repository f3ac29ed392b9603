"""How a gallery looks, and what it does when a reader clicks; nothing in it needs another file or the network."""

from hdmap_core.elements import MapClass
from hdmap_core.viz import COLOURS

_CLASSES = "".join(
    f".{label.value} {{ --ink: rgb{COLOURS[label]}; }} .no-{label.value} .layers .{label.value} {{ display: none; }}\n"
    for label in MapClass
)
STYLE = (
    """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2f6fde; --panel: #fffe; }
@media (prefers-color-scheme: dark) { :root { --accent: #8ab4ff; --panel: #1c1e26ee; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem; max-width: 1500px; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1.05rem; margin: 0; }
p { margin: .3rem 0; } a { color: var(--accent); } .soft { opacity: .75; font-weight: 400; }
.tables { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; }
thead th { font-weight: 600; } th:first-child { text-align: left; }
article { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 0 0 1.2rem; }
.runs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: .8rem; }
.row { display: flex; gap: .3rem; margin-bottom: .3rem; } .row > * { flex: 1 1 0; min-width: 0; }
.layered { position: relative; display: block; padding: 0; border: 0; margin: 0 0 .3rem; width: 100%; cursor: zoom-in;
  background: var(--soft); overflow: hidden; }
.layered img { width: 100%; height: auto; display: block; }
.layers { position: absolute; inset: 0; width: 100%; height: 100%; fill: none; stroke-linejoin: round;
  stroke-linecap: round; }
.layers .predicted path { stroke: var(--ink); } .layers .truth path { stroke: #fff; stroke-width: 2px; }
.layers .truth { filter: drop-shadow(0 0 1px #000); }
.no-predicted .predicted, .no-truth .truth, .weak { display: none; } .no-image .layered img { opacity: 0; }
.no-image .layered { background: #15171d; }
.strip { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .8rem; }
.strip img { width: 100%; height: auto; display: block; }
figure { margin: 0; } figcaption { font-size: .9rem; } .chart { width: 330px; } .chart figcaption { font-weight: 600; }
.chart text { font-size: 11px; fill: currentColor; opacity: .75; } .chart path { fill: none; stroke-width: 2; }
.chart .curve { stroke: var(--ink); } .chart .other { --ink: #8c8c96; }
.chart .axis { stroke: var(--line); stroke-width: 1; }
.key { display: inline-block; width: 1.6rem; height: .35rem; border-radius: .2rem; margin: 0 .4rem .15rem 0;
  background: var(--ink); }
.controls { position: sticky; top: 0; z-index: 1; background: var(--panel); padding: .5rem 0;
  border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; align-items: center; }
code { font-size: .85em; }
.controls label { white-space: nowrap; } .controls output { display: inline-block; width: 2.2rem; }
.order { font: inherit; padding: .3rem .9rem; margin-right: .4rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--soft); color: inherit; cursor: pointer; }
.order[aria-pressed=true] { border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent); }
dialog { width: 96vw; height: 94vh; max-width: none; max-height: none; padding: 0; border: 0; background: #101218;
  overflow: hidden; }
dialog::backdrop { background: #000c; } dialog .layered { cursor: grab; transform-origin: 0 0; }
dialog p { position: absolute; right: 1rem; bottom: .5rem; color: #fff; text-shadow: 0 0 3px #000;
  pointer-events: none; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
"""
    + _CLASSES
)
SCRIPT = """
const list = document.getElementById('frames'), all = selector => [...document.querySelectorAll(selector)];
const orders = { best: (a, b) => a.dataset.rank - b.dataset.rank, worst: (a, b) => b.dataset.rank - a.dataset.rank,
  scene: (a, b) => a.dataset.scene.localeCompare(b.dataset.scene) || a.dataset.rank - b.dataset.rank,
  apart: (a, b) => b.dataset.apart - a.dataset.apart };
all('button[data-sort]').forEach(button => button.addEventListener('click', () => {
  [...list.children].sort(orders[button.dataset.sort]).forEach(card => list.append(card));
  all('button[data-sort]').forEach(other => other.setAttribute('aria-pressed', other === button));
}));
all('input[data-layer]').forEach(box => box.addEventListener('change', () =>
  document.body.classList.toggle('no-' + box.dataset.layer, !box.checked)));
const slider = document.getElementById('score');
const choose = () => { slider.nextElementSibling.value = Number(slider.value).toFixed(2);
  all('.predicted [data-score]').forEach(line =>
    line.classList.toggle('weak', Number(line.dataset.score) < slider.value)); };
slider.addEventListener('input', choose);
const dialog = document.querySelector('dialog');
let view = null, shown = null, grip = null;
const place = () => { shown.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`; };
all('.layered').forEach(picture => picture.addEventListener('click', () => {
  shown = picture.cloneNode(true); view = { x: 0, y: 0, zoom: 1 };
  dialog.querySelector('.layered')?.remove(); dialog.prepend(shown); place(); dialog.showModal(); }));
dialog.addEventListener('wheel', event => { event.preventDefault();
  const zoom = Math.min(40, Math.max(1, view.zoom * Math.exp(-event.deltaY / 400))), ratio = zoom / view.zoom;
  const box = dialog.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  view = { x: x - ratio * (x - view.x), y: y - ratio * (y - view.y), zoom }; place(); }, { passive: false });
dialog.addEventListener('pointerdown', event => { event.preventDefault(); grip = { x: event.clientX, y: event.clientY };
  dialog.setPointerCapture(event.pointerId); });
dialog.addEventListener('pointermove', event => { if (!grip) return;
  view.x += event.clientX - grip.x; view.y += event.clientY - grip.y; grip = { x: event.clientX, y: event.clientY };
  place(); });
dialog.addEventListener('pointerup', () => { grip = null; });
dialog.addEventListener('dblclick', () => dialog.close());
"""
