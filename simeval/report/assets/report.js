"use strict";
/* Fills the page from its data: comparison, trial table, thumbnails, 3D view. All text goes in as text. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, attributes = {}) => {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    return e;
  };
  const trials = data.trials ? data.trials.rows : [], columns = data.trials ? data.trials.columns : [];
  const column = Object.fromEntries(columns.map((c, i) => [c.key, i]));
  const value = (row, i) => { const v = row[i]; return columns[i].names && v !== null ? columns[i].names[v] : v; };
  const PAGE = 100;

  function choices(select, names, first) {
    if (first) select.append(new Option(first, ""));
    for (const name of names) select.append(new Option(name, name));
  }

  // Trials
  if (data.trials) {
    const state = { sort: null, down: false, shown: PAGE };
    const lower = trials.map((row) => columns.map((c, i) => value(row, i)).join(" ").toLowerCase());
    const filters = ["generator", "protocol", "outcome", "type"].map((key) => [column[key], $("filter-" + key)]);
    for (const [i, select] of filters) {
      choices(select, [...new Set(trials.map((row) => value(row, i)))].filter((n) => n !== "").sort(), "all");
      select.addEventListener("change", refresh);
    }
    $("filter-text").addEventListener("input", refresh);
    $("filter-3d").addEventListener("change", refresh);
    $("filter-clear").addEventListener("click", () => {
      for (const [, select] of filters) select.value = "";
      $("filter-text").value = "";
      $("filter-3d").checked = false;
      refresh();
    });
    $("more").addEventListener("click", () => { state.shown += 5 * PAGE; draw(); });
    const head = $("trials").tHead.insertRow();
    columns.forEach((c, i) => {
      const th = make("th", undefined, { scope: "col", "aria-sort": "none" });
      const button = make("button", c.title, { type: "button" });
      button.addEventListener("click", () => {
        state.down = state.sort === i && !state.down;
        state.sort = i;
        [...head.cells].forEach((cell, k) => cell.setAttribute("aria-sort", k !== i ? "none" : state.down ? "descending" : "ascending"));
        refresh();
      });
      th.append(button);
      if (c.number) th.className = "number";
      head.append(th);
    });
    let found = [];
    function refresh() {
      const words = $("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
      found = trials.map((_, k) => k).filter((k) =>
        filters.every(([i, select]) => !select.value || value(trials[k], i) === select.value) &&
        words.every((w) => lower[k].includes(w)) &&
        (!$("filter-3d").checked || trials[k][column.id] in data.scenes.trials));
      if (state.sort !== null) {
        const i = state.sort, sign = state.down ? -1 : 1;
        found.sort((a, b) => {
          const x = value(trials[a], i), y = value(trials[b], i);
          if (x === null || y === null) return (x === null) - (y === null);  // what is missing comes last
          return sign * (columns[i].number ? x - y : String(x).localeCompare(String(y))) || a - b;
        });
      }
      state.shown = PAGE;
      draw();
    }
    function draw() {
      const body = document.createDocumentFragment();
      for (const k of found.slice(0, state.shown)) {
        const row = make("tr");
        columns.forEach((c, i) => {
          const v = value(trials[k], i), cell = make("td");
          if (c.key === "id" && v in data.scenes.trials) {
            const button = make("button", v, { type: "button", title: "show in 3D" });
            button.addEventListener("click", () => show(v, true));
            cell.append(button, " 3D");
          } else cell.textContent = v === null ? "–" : c.number ? v.toFixed(c.digits) : v;
          if (c.number) cell.className = "number";
          if (c.key === "outcome") cell.className = v === "LIFTED" ? "good" : "bad";
          row.append(cell);
        });
        body.append(row);
      }
      $("trials").tBodies[0].replaceChildren(body);
      $("count").textContent = `${found.length} of ${trials.length} trials`;
      $("more").hidden = found.length <= state.shown;
      $("more").textContent = `Show more (${Math.min(state.shown, found.length)} of ${found.length} shown)`;
    }
    refresh();
  }

  // Comparison
  if (data.comparison) {
    choices($("baseline"), [...new Set(data.comparison.map((c) => c.baseline))]);
    const refresh = () => {
      const rows = data.comparison.filter((c) => c.baseline === $("baseline").value).map((c) => {
        const row = make("tr");
        c.cells.forEach((text, i) => row.append(make("td", text, i > 1 ? { class: "number" } : {})));
        return row;
      });
      $("comparison").tBodies[0].replaceChildren(...rows);
    };
    $("baseline").addEventListener("change", refresh);
    refresh();
  }

  // 3D
  const chosen = Object.keys(data.scenes.trials);
  const describe = (id) => data.scenes.trials[id].title;
  let panel = null;
  function show(id, scroll) {
    if (!panel) return;
    $("trial").value = id;
    panel.show(id);
    $("command").textContent = data.scenes.trials[id].command;
    for (const b of document.querySelectorAll("[data-trial]")) b.setAttribute("aria-pressed", String(b.dataset.trial === id));
    if (scroll) {
      $("view").scrollIntoView({ block: "start" });
      $("canvas").focus({ preventScroll: true });
    }
  }
  function start() {
    let painter = null;
    try { painter = new Viewer.Painter(data.scenes); } catch (error) {
      $("no-webgl").hidden = false;
      $("panel").hidden = true;
      document.documentElement.dataset.ready = "yes";
    }
    if (painter) {
      panel = new Viewer.Panel($("panel"), data.scenes, painter, describe);
      for (const id of chosen) $("trial").append(new Option(describe(id), id));
      $("trial").addEventListener("change", () => show($("trial").value));
      const pictures = [];
      for (const id of chosen.filter((id) => data.scenes.trials[id].failed)) {
        const button = make("button", undefined, { type: "button", "data-trial": id, "aria-pressed": "false" });
        const canvas = make("canvas", undefined, { width: 240, height: 240, "aria-hidden": "true" });
        button.append(canvas, make("span", describe(id)));
        button.addEventListener("click", () => show(id, true));
        if ($("failures")) $("failures").append(button);
        pictures.push([id, canvas]);
      }
      const next = () => {  // one at a time, so that the page can be used meanwhile
        const [id, canvas] = pictures.shift() || [];
        if (!id) { document.documentElement.dataset.ready = "yes"; return; }
        Viewer.thumbnail(painter, id, canvas);
        setTimeout(next, 0);
      };
      show(chosen[0]);
      setTimeout(next, 0);
    }
  }
  if (chosen.length) setTimeout(start, 50);  // after the page has been painted
  else document.documentElement.dataset.ready = "yes";
})();
