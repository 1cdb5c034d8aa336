"""One HTML file that needs nothing else: no network, no other file, no font.

Its content security policy allows the page's own style and script (by their hashes) and embedded pictures, nothing
more. Text from runs is escaped, or reaches the page as JSON and is put in as text.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple


class Picture(NamedTuple):
    """A figure of a page."""

    title: str
    caption: str
    svg: bytes


def page(title: str, body: str, data: Mapping[str, Any]) -> str:
    """Return a whole page.

    Args:
        title: as text.
        body: as HTML, from the functions below.
        data: what the page's script reads, as JSON types: `scenes` ({hand, objects, trials}), `trials`, `comparison`.
    """
    style, script = asset("report.css"), asset("viewer.js") + asset("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'{body}\n<script type="application/json" id="data">{embedded_json(data)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def embedded_json(data: Any) -> str:
    """Return JSON that nothing in it can end the <script> element around it; no NaN."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def asset(name: str) -> str:
    """Return the text of a file of `assets/`."""
    return (files("simeval.report") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# Parts of a page


def header(title: str, lines: Sequence[str], sections: Sequence[tuple[str, str]] = ()) -> str:
    """Title, lines of text below it, and links to sections (id, name)."""
    links = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in sections)
    skip = f'<a class="skip" href="#{sections[0][0]}">Skip to the results</a>' if sections else ""
    nav = f'<nav aria-label="Sections">{links}</nav>' if sections else ""
    text = "".join(f'<p class="dim">{escape(line)}</p>' for line in lines)
    noscript = "<noscript><p>The trial table and the 3D view need JavaScript.</p></noscript>"
    return f"{skip}<header><h1>{escape(title)}</h1>{text}{nav}{noscript}</header>"


def section(name: str, title: str, content: str) -> str:
    """Return a section with a heading; `content` is HTML."""
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{content}</section>'


def figures(pictures: Sequence[Picture]) -> str:
    """Return figures with their captions, embedded."""
    parts = []
    for picture in pictures:
        source = "data:image/svg+xml;base64," + base64.b64encode(picture.svg).decode()
        alt = escape(f"{picture.title}. {picture.caption}")
        parts.append(
            f'<figure><img src="{source}" alt="{alt}"><figcaption><b>{escape(picture.title)}.</b> '
            f"{escape(picture.caption)}</figcaption></figure>"
        )
    return f'<div class="figures">{"".join(parts)}</div>'


def viewer_panel(note: str, choose: bool = True) -> str:
    """Return the 3D view; `note` says which trials it has. Without `choose` it shows the only one."""
    hidden = "" if choose else " hidden"
    buttons = "".join(
        f'<button type="button" data-part="{name}" aria-pressed="false">{text}</button>'
        for name, text in (("commanded", "Commanded"), ("held", "Achieved"), ("end", "End"))
    )
    return f"""<p class="dim">{escape(note)}</p>
<p id="no-webgl" role="alert" hidden>This browser has no WebGL, which the 3D view needs; the rest of the page works.</p>
<div id="panel">
<div class="controls"{hidden}><label>Trial <select id="trial"></select></label></div>
<canvas id="canvas" data-part="canvas" tabindex="0" role="img" aria-label="3D view"></canvas>
<p data-part="words" aria-live="polite"></p>
<div class="controls">{buttons}<button type="button" data-part="play">Play</button>
<button type="button" data-part="reset">Reset view</button>
<label class="line"><input type="checkbox" data-part="glass"> See through the object</label></div>
<label class="dim">Moment <input type="range" data-part="slider" min="0" value="0"></label>
<p class="dim legend"><span class="hand">hand</span><span class="touching">links in contact, squeeze complete</span>
<span class="contact">contact points then</span><span class="object">object</span></p>
<p class="dim">Drag or arrow keys turn it; two fingers, + and −, or the wheel once it has the focus zoom. Seen from the
palm: the floor sinks as the hand rises.</p>
<p class="dim" data-part="note"></p><p class="dim">Again: <code id="command"></code></p>
</div>"""


def trial_table() -> str:
    """Return the table of trials, to be filled by the script."""
    selects = "".join(
        f'<label>{name.capitalize()} <select id="filter-{name}"></select></label>'
        for name in ("generator", "protocol", "outcome", "type")
    )
    return f"""<div class="controls">
<label>Search <input id="filter-text" type="search" placeholder="object, id, reason …"></label>{selects}
<label class="line"><input id="filter-3d" type="checkbox"> in 3D</label>
<button type="button" id="filter-clear">Clear</button></div>
<p class="dim" id="count" role="status"></p>
<div class="scroll" id="trials-box" tabindex="0" role="region" aria-label="Trials">
<table id="trials"><caption>A heading sorts; a button shows the trial in 3D.</caption>
<thead></thead><tbody></tbody></table></div>
<button type="button" id="more" hidden>Show more</button>"""


def comparison_table(headers: Sequence[str], note: str) -> str:
    """Return the table of paired differences, to be filled by the script; the first two columns are names."""
    cells = "".join(
        f'<th scope="col"{" class=" + chr(34) + "number" + chr(34) if i > 1 else ""}>{escape(h)}</th>'
        for i, h in enumerate(headers)
    )
    return f"""<div class="controls"><label>Compared with <select id="baseline"></select></label></div>
<div class="scroll" tabindex="0" role="region" aria-label="Comparison"><table id="comparison">
<thead><tr>{cells}</tr></thead><tbody></tbody></table></div><p class="dim">{escape(note)}</p>"""
