// What the page can do beyond being read: search, sort, copy, and say how long ago something was.
"use strict";
(() => {
  const table = document.querySelector("table");
  const body = table.tBodies[0];
  const search = document.querySelector(".search");
  const input = search.querySelector("input");
  const found = search.querySelector("output");
  const nothing = document.querySelector(".nothing");
  const told = document.querySelector(".told");

  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const rows = Array.from(body.rows, (row, number) => ({ row, number, text: "" }));
  // Cells by their number: `querySelector(".size data")` takes the longer the further down the row is.
  const [NAME, ABOUT, SIZE, AGE] = [0, 1, 2, 3];

  // -- search: each word must be somewhere in the name, the description, the tags, the source; `is:stale`, `in:core/`

  const textOf = (row) => {
    const { cells } = row;
    const parts = Array.from(cells[ABOUT].children, (part) => (part.tagName === "P" ? part.textContent : ""));
    const catalog = cells[NAME].firstElementChild;
    parts.push(cells[NAME].textContent, `is:${row.className}`, catalog ? `in:${catalog.textContent}` : "");
    return plain(parts.join("\n"));
  };

  const show = (query) => {
    const words = plain(query).split(/\s+/).filter(Boolean);
    let count = 0;
    for (const each of rows) {
      if (words.length && !each.text) each.text = textOf(each.row);
      const isMeant = words.every((word) => each.text.includes(word));
      if (each.row.hidden === isMeant) each.row.hidden = !isMeant;
      count += isMeant;
    }
    found.textContent = words.length ? `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
    nothing.hidden = count > 0;
    table.hidden = !count;
  };

  const queryOfAddress = () => {
    if (!location.hash.startsWith("#q=")) return "";
    try {
      return decodeURIComponent(location.hash.slice(3));
    } catch {
      return "";
    }
  };

  const ask = (query) => {
    input.value = query;
    show(query);
  };

  const noteInAddress = () => {
    const query = input.value.trim();
    try {
      history.replaceState(null, "", location.href.split("#")[0] + (query ? `#q=${encodeURIComponent(query)}` : ""));
    } catch {
      // The search works all the same; it only can't be passed on as a link.
    }
  };

  input.addEventListener("input", () => {
    show(input.value);
    noteInAddress();
  });
  search.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => ask(queryOfAddress()));
  addEventListener("keydown", (event) => {
    if (event.key === "/" && event.target !== input && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.select();
      input.focus();
    } else if (event.key === "Escape" && event.target === input) {
      ask("");
      noteInAddress();
    }
  });
  for (const link of document.querySelectorAll(".nothing a"))
    link.addEventListener("click", () => input.focus());

  // -- sort: once, the other way round, and back to the order of the catalog

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const states = ["fresh", "not-cached", "stale", "unknown"];
  const columns = {
    name: { first: "ascending", value: (row) => row.cells[NAME].textContent },
    size: { first: "descending", value: (row) => numberOf(row.cells[SIZE], (data) => data.value) },
    age: { first: "ascending", value: (row) => numberOf(row.cells[AGE], (time) => -Date.parse(time.dateTime)) },
    state: { first: "descending", value: (row) => states.indexOf(row.className) },
  };
  const numberOf = (cell, read) => (cell.firstElementChild ? Number(read(cell.firstElementChild)) : null);
  const compared = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);

  const sort = (name, order) => {
    const { value } = columns[name];
    const sign = order === "descending" ? -1 : 1;
    const keyed = rows.map((each) => ({ each, key: order ? value(each.row) : each.number }));
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.each.number - b.each.number;
      return sign * compared(a.key, b.key) || a.each.number - b.each.number;
    });
    const fragment = document.createDocumentFragment();
    for (const { each } of keyed) fragment.append(each.row);
    body.append(fragment);
  };

  for (const [name, column] of Object.entries(columns)) {
    const heading = table.tHead.querySelector(`.${name}`);
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const second = column.first === "ascending" ? "descending" : "ascending";
      const now = heading.getAttribute("aria-sort");
      const order = now === null ? column.first : now === column.first ? second : null;
      for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
      if (order) heading.setAttribute("aria-sort", order);
      sort(name, order);
    });
  }

  // -- copy

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };

  const copy = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      // No clipboard here (plain HTTP, or it was refused): the older way, which leaves the code selected.
      select(code);
      try {
        return document.execCommand("copy");
      } catch {
        return false;
      }
    }
  };

  for (const snippet of document.querySelectorAll(".snippet")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${snippet.querySelector("code").textContent}`);
    snippet.append(button);
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".snippet button");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    const isCopied = await copy(code);
    button.textContent = isCopied ? "Copied" : "Ctrl+C";
    told.textContent = isCopied ? `Copied: ${code.textContent}` : "Selected: press Ctrl+C to copy it";
    setTimeout(() => {
      button.textContent = "Copy";
      told.textContent = "";
    }, 2000);
  });

  // -- ages, as of now

  const relative = new Intl.RelativeTimeFormat("en"); // not "yesterday": 30 hours ago may be the day before
  const units = [["year", 31557600], ["month", 2629800], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const age = (time, now) => {
    const seconds = (Date.parse(time.dateTime) - now) / 1000;
    for (const [unit, length] of units)
      if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
    return "just now";
  };
  const times = document.querySelectorAll("time");
  const tellAges = () => {
    const now = Date.now();
    for (const time of times) {
      const text = age(time, now);
      if (time.textContent !== text) time.textContent = text;
    }
  };

  tellAges();
  setInterval(tellAges, 60000);
  search.hidden = rows.length === 0;
  ask(queryOfAddress());
})();
