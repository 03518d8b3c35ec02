"use strict";
// Draws the tokens from the data element. What a model wrote only ever becomes textContent.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const CHUNK = 400;
  const both = data.views.length;
  const state = { prompt: 0, show: both > 1 ? both : 0, colour: 0, perRow: false };
  let rows = []; // the completions on the page, in reading order
  let pinned = null; // {row, index}: the token that has the focus

  function make(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const say = (value, unit) => {
    if (value === null || value === undefined) return "unknown";
    const size = Math.abs(value);
    const text = size !== 0 && size < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
    return (unit === "×" ? "×" + text : unit ? text + " " + unit : text).replace(/-/g, "\u2212");
  };
  const word = (number) => (data.words[number] === "" ? "∅" : data.words[number]);
  const running = (number) => word(number).replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t");

  // ---- colours
  const colouring = () => data.colourings[state.colour];
  const scaled = (value, kind) => (kind === "about one" ? Math.log(value) : value);
  function range(row) {
    const one = colouring();
    if (!one) return [0, 1];
    if (!state.perRow || one.kind === "yes" || !row) return one.range;
    let low = Infinity, high = -Infinity;
    for (const value of row.values[one.key] || []) {
      if (value === null) continue;
      const here = scaled(value, one.kind);
      if (here < low) low = here;
      if (here > high) high = here;
    }
    if (low > high) return one.range;
    if (!one.kind.startsWith("about")) return [low, high];
    const most = Math.max(Math.abs(low), Math.abs(high), 1e-9);
    return [-most, most];
  }
  function shade(value, ends) {
    const kind = colouring() ? colouring().kind : "";
    if (value === null || value === undefined) return "t";
    if (kind === "yes") return value ? "t k1" : "t k0";
    let share = (scaled(value, kind) - ends[0]) / (ends[1] - ends[0] || 1);
    share = Math.min(1, Math.max(0, share));
    if (kind.startsWith("about")) return "t d" + Math.round(share * 24);
    return "t s" + Math.round((kind === "falling" ? 1 - share : share) * 23);
  }
  function repaint() {
    const key = colouring() ? colouring().key : "";
    for (const row of rows) {
      const values = row.data.values[key] || [], ends = range(row.data);
      row.tokens.forEach((token, index) => { token.className = shade(values[index], ends); });
    }
    if (pinned) mark(pinned, true);
    legend();
  }
  function legend() {
    const box = at("legend"), one = colouring();
    box.replaceChildren();
    if (!one) return;
    if (one.kind === "yes") {
      box.append(make("span", "swatch k1", "kept"), make("span", "swatch t k0", "left out"));
      return;
    }
    const about = one.kind.startsWith("about"), falling = one.kind === "falling";
    const end = (value) => (one.kind === "about one" ? say(Math.exp(value), "×") : say(value, one.unit));
    const ramp = make("span", "ramp");
    for (let step = 0; step <= (about ? 24 : 23); step++) {
      ramp.append(make("i", about ? "d" + step : "s" + (falling ? 23 - step : step)));
    }
    const [low, high] = state.perRow ? ["lowest of the row", "highest of the row"] : one.range.map(end);
    box.append(make("span", "", low), ramp, make("span", "", high));
  }

  // ---- the completions of a prompt
  function fill(row, chunk) {
    if (chunk.filled) return;
    chunk.filled = true;
    const key = colouring() ? colouring().key : "", values = row.data.values[key] || [], ends = range(row.data);
    for (let index = chunk.start; index < chunk.end; index++) {
      const token = make("span", shade(values[index], ends), running(row.data.tokens[index]));
      token.tabIndex = -1;
      token.at = { row, index };
      row.tokens[index] = token;
      chunk.element.append(token);
    }
  }
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        fill(entry.target.row, entry.target.chunk);
        watcher.unobserve(entry.target);
      }
    }
  }, { rootMargin: "1200px" });
  function drawRow(view, group, one) {
    const box = make("section", "row"), head = make("p"), text = make("div", "text");
    const row = { view, group, data: one, tokens: [], chunks: [], box };
    box.setAttribute("aria-label", view.name + ", " + one.name);
    head.append(make("b", "", one.name));
    if (one.reward !== null) head.append(make("span", "", "reward " + say(one.reward)));
    const advantages = one.values.advantage || [];
    if (advantages.length) head.append(make("span", "", "advantage " + say(advantages[0])));
    head.append(make("span", "", one.tokens.length + " tokens"));
    if (one.finish === "length") head.append(make("span", "", "cut off"));
    if (one.live === false) head.append(make("span", "", "no gradient"));
    if (!one.tokens.length) text.append(make("span", "soft", "nothing was written"));
    for (let start = 0; start < one.tokens.length; start += CHUNK) {
      const chunk = { start, end: Math.min(start + CHUNK, one.tokens.length), element: make("div", "chunk"), filled: false };
      Object.assign(chunk.element, { row, chunk });
      row.chunks.push(chunk);
      text.append(chunk.element);
      watcher.observe(chunk.element);
    }
    box.append(head, text);
    rows.push(row);
    return box;
  }
  function draw() {
    watcher.disconnect();
    rows = [];
    pinned = null;
    const stage = at("rows"), shown = both > 1 && state.show === both ? data.views.map((_, v) => v) : [state.show];
    const sides = make("div", shown.length > 1 ? "sides two" : "sides"), places = data.prompts[state.prompt] || [];
    stage.replaceChildren();
    const asked = shown.map((v) => places[v] >= 0 && data.views[v].groups[places[v]]).find((group) => group);
    if (asked) {
      const prompt = make("pre", "", asked.prompt);
      prompt.tabIndex = 0;
      prompt.setAttribute("aria-label", "prompt");
      stage.append(prompt);
      if (asked.answer !== null) stage.append(make("p", "soft", "Answer: " + asked.answer));
    }
    for (const v of shown) {
      const view = data.views[v], side = make("section"), group = view.groups[places[v]];
      if (both > 1) side.append(make("h2", "", view.name));
      if (!group) side.append(make("p", "soft", "This prompt was not asked in this step."));
      else {
        const box = make("div", "group");
        for (const one of group.rows) box.append(drawRow(view, group, one));
        side.append(box);
      }
      sides.append(side);
    }
    stage.append(sides);
    if (rows.length && rows[0].chunks.length) {
      fill(rows[0], rows[0].chunks[0]);
      rows[0].tokens[0].tabIndex = 0;
      show({ row: rows[0], index: 0 });
    } else {
      for (const id of ["word", "place", "values", "best", "said"]) at(id).replaceChildren();
      at("besthead").hidden = true;
    }
    legend();
    controls();
  }

  // ---- the token that is looked at
  function cells(table, names) {
    const line = make("tr");
    for (const [name, text] of names) line.append(make("td", name, text));
    table.append(line);
    return line;
  }
  function show(place) {
    const one = place.row.data, index = place.index, values = at("values"), best = at("best");
    at("word").textContent = running(one.tokens[index]);
    at("place").textContent = place.row.view.name + ", " + one.name + ", token " + (index + 1) + " of " + one.tokens.length;
    values.replaceChildren();
    for (const each of data.colourings) {
      const list = one.values[each.key];
      if (!list) continue;
      const text = each.kind === "yes" ? (list[index] ? "yes" : "no") : say(list[index], each.unit);
      const line = cells(values, [["", each.name], ["", text]]);
      line.title = each.meaning;
      line.dataset.key = each.key;
      if (each === colouring()) line.className = "now";
    }
    for (const [key, name] of Object.entries(data.also)) {
      if (one.values[key]) cells(values, [["", name], ["", say(one.values[key][index], "nats")]]).dataset.key = key;
    }
    best.replaceChildren();
    const width = one.best ? one.best.length / one.tokens.length : 0;
    at("besthead").hidden = !width;
    for (let rank = index * width; rank < (index + 1) * width; rank++) {
      const chance = one.chance[rank] / 1e4, bar = make("i");
      const line = cells(best, [["word", running(one.best[rank])], ["", (100 * chance).toFixed(chance < 0.1 ? 2 : 1) + " %"], ["gauge", ""]]);
      if (one.best[rank] === one.tokens[index]) line.className = "now";
      bar.style.width = 100 * chance + "%";
      line.lastChild.append(bar);
    }
  }
  function mark(place, on) {
    const token = place.row.tokens[place.index];
    if (token) token.classList.toggle("at", on);
  }
  function pin(row, index) {
    const place = { row, index };
    const chunk = row.chunks[Math.floor(index / CHUNK)];
    if (!chunk) return;
    fill(row, chunk);
    if (pinned) mark(pinned, false);
    for (const old of at("rows").querySelectorAll('.t[tabindex="0"]')) old.tabIndex = -1;
    pinned = place;
    const token = row.tokens[index];
    token.tabIndex = 0;
    if (document.activeElement !== token) token.focus();
    mark(place, true);
    show(place);
    const key = colouring();
    const value = key && row.data.values[key.key] ? ", " + key.name + " " + say(row.data.values[key.key][index], key.unit) : "";
    at("said").textContent = at("word").textContent + value;
  }

  // ---- moving about
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const here = () => pinned || (rows.length ? { row: rows[0], index: -1 } : null);
  function step(by) {
    const from = here();
    if (from && from.row.data.tokens.length) pin(from.row, clamp(from.index + by, 0, from.row.data.tokens.length - 1));
  }
  function jump(by) {
    const from = here();
    for (let place = from ? rows.indexOf(from.row) + by : -1; place >= 0 && place < rows.length; place += by) {
      const length = rows[place].data.tokens.length;
      if (length) return pin(rows[place], clamp(from.index, 0, length - 1));
    }
  }
  function fork(by) {
    const from = here();
    if (!from) return;
    for (let place = rows.indexOf(from.row), index = from.index + by; place >= 0 && place < rows.length; place += by) {
      const list = rows[place].data.values.entropy || [], limit = rows[place].view.threshold;
      if (place !== rows.indexOf(from.row)) index = by > 0 ? 0 : list.length - 1;
      for (; index >= 0 && index < list.length; index += by) {
        if (limit !== null && list[index] >= Number(limit.toPrecision(4))) return pin(rows[place], index);
      }
    }
  }
  function turn(by) {
    state.prompt = clamp(state.prompt + by, 0, Math.max(0, data.prompts.length - 1));
    draw();
  }
  function recolour(number) {
    if (!data.colourings.length) return;
    state.colour = (number + data.colourings.length) % data.colourings.length;
    again();
  }
  function again() {
    repaint();
    controls();
    const place = pinned || (rows.length && rows[0].tokens.length ? { row: rows[0], index: 0 } : null);
    if (place) show(place);
  }
  function reshow(number) {
    const old = pinned && { place: rows.indexOf(pinned.row), index: pinned.index };
    state.show = both > 1 ? number % (both + 1) : 0;
    draw();
    if (old && rows.length) {
      const row = rows[clamp(old.place, 0, rows.length - 1)];
      pin(row, clamp(old.index, 0, row.data.tokens.length - 1));
    }
  }
  const rescale = (perRow) => { state.perRow = perRow; again(); };
  const first = () => { const from = here(); if (from) pin(from.row, 0); };
  const last = () => { const from = here(); if (from) pin(from.row, from.row.data.tokens.length - 1); };
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => jump(-1), ArrowDown: () => jump(1),
    Home: first, End: last, PageUp: () => turn(-1), PageDown: () => turn(1), "[": () => turn(-1), "]": () => turn(1),
    f: () => fork(1), F: () => fork(-1), c: () => recolour(state.colour + 1), C: () => recolour(state.colour - 1),
    a: () => rescale(!state.perRow), s: () => reshow(state.show + 1), "?": () => at("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
    const number = Number(event.key), over = event.target;
    if (over.tagName === "PRE" && over.scrollHeight > over.clientHeight && event.key.length > 1) return; // it scrolls
    if (event.key >= "1" && event.key <= "9" && number <= data.colourings.length) recolour(number - 1);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  const stage = at("rows");
  stage.addEventListener("mouseover", (event) => { if (event.target.at) show(event.target.at); });
  stage.addEventListener("mouseleave", () => { if (pinned) show(pinned); });
  stage.addEventListener("focusin", (event) => {
    const place = event.target.at;
    if (place && !(pinned && pinned.row === place.row && pinned.index === place.index)) pin(place.row, place.index);
  });
  stage.addEventListener("click", (event) => { if (event.target.at) pin(event.target.at.row, event.target.at.index); });

  // ---- buttons
  function choice(box, names, chosen, act) {
    if (box.childElementCount !== names.length) {
      box.replaceChildren(...names.map(([text, hint], number) => {
        const button = make("button", "", text);
        button.type = "button";
        if (hint) button.title = hint;
        button.addEventListener("click", () => act(number));
        return button;
      }));
    }
    [...box.children].forEach((button, number) => button.setAttribute("aria-pressed", String(number === chosen)));
  }
  function controls() {
    choice(at("colours"), data.colourings.map((one) => [one.name, one.meaning]), state.colour, recolour);
    choice(at("scales"), [["One scale"], ["Per completion"]], Number(state.perRow), (number) => rescale(number === 1));
    if (both > 1) {
      choice(at("shows"), [...data.views.map((view) => [view.name]), ["Side by side"]], state.show, reshow);
    }
    const box = at("turns");
    if (!box.childElementCount) {
      const [back, on, where] = [make("button", "", "‹ prompt"), make("button", "", "prompt ›"), make("output")];
      back.addEventListener("click", () => turn(-1));
      on.addEventListener("click", () => turn(1));
      box.append(back, on, where);
    }
    box.lastChild.textContent = (data.prompts.length ? state.prompt + 1 : 0) + " of " + data.prompts.length;
  }
  draw();
})();
