"use strict";
(() => {
  const result = document.getElementById("moeplan-result");
  const root = document.documentElement;

  // Saved as it stands: the reader's own parser makes of it what --format json prints.
  const save = document.getElementById("save");
  save.hidden = false;
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([result.textContent], {type: "application/json"}));
    link.download = "moeplan.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });

  // A page from a file may have nowhere to remember the choice; then it lasts as long as the page.
  const remember = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("moeplan-theme");
      localStorage.setItem("moeplan-theme", value);
    } catch { /* not allowed here */ }
    return null;
  };
  const theme = document.getElementById("theme");
  const choices = {automatic: "light", light: "dark", dark: "automatic"};
  const use = (name) => {
    theme.textContent = `Theme: ${name}`;
    if (name === "automatic") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", name);
  };
  let chosen = remember();
  if (!(chosen in choices)) chosen = "automatic";
  use(chosen);
  theme.hidden = false;
  theme.addEventListener("click", () => {
    chosen = choices[chosen];
    use(chosen);
    remember(chosen);
  });

  // A command or a file is taken along whole.
  for (const block of navigator.clipboard ? document.querySelectorAll("pre") : []) {
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "copy";
    copy.textContent = "Copy";
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.textContent.trimEnd());
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed here";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    });
    block.after(copy);
  }

  // A table is a stop of the keyboard where it can be scrolled.
  const reached = () => {
    for (const table of document.querySelectorAll(".table")) table.tabIndex = table.scrollWidth > table.clientWidth ? 0 : -1;
  };
  reached();
  addEventListener("resize", reached);
  addEventListener("toggle", reached, true);

  // A mark says what it stands for where it is pointed at, and by the arrow keys where its chart has the focus.
  const marked = "[role=graphics-symbol][aria-label]";
  for (const chart of document.querySelectorAll(".chart")) {
    const readout = chart.parentElement.querySelector(".readout");
    const marks = [...chart.querySelectorAll(marked)].filter((mark) => !["axis", "legend", "title"].includes(mark.getAttribute("aria-roledescription")));
    let place = -1;
    const show = (mark) => {
      chart.querySelector(".current")?.classList.remove("current");
      readout.textContent = mark ? mark.getAttribute("aria-label") : "";
      mark?.classList.add("current");
    };
    chart.addEventListener("pointerover", (event) => {
      const mark = event.target.closest(marked);
      if (marks.includes(mark)) show(mark);
    });
    chart.addEventListener("pointerleave", () => show(null));
    chart.addEventListener("blur", () => show(null));
    chart.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (step && marks.length) place = (place + step + marks.length + (place < 0 && step < 0 ? 1 : 0)) % marks.length;
      else if (event.key === "Home") place = 0;
      else if (event.key === "End") place = marks.length - 1;
      else if (event.key === "Escape") place = -1;
      else return;
      event.preventDefault();
      show(marks[place]);
    });
    if (marks.length) chart.setAttribute("aria-description", "Arrow keys go from mark to mark.");
  }

  // The contents tell where the reader is.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  if ("IntersectionObserver" in window) {
    const seen = new Set();
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
      let first = true;
      for (const [name, link] of links) {
        if (first && seen.has(name)) { link.setAttribute("aria-current", "true"); first = false; }
        else link.removeAttribute("aria-current");
      }
    }, {rootMargin: "-10% 0px -60% 0px"});
    for (const part of document.querySelectorAll("main section")) watch.observe(part);
  }

  // On paper everything is open.
  const closed = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  addEventListener("beforeprint", () => { opened = closed(); for (const one of opened) one.open = true; });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; opened = []; });
})();
