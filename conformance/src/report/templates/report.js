"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const form = byId("filters");
  const fields = { rfc: byId("f-rfc"), role: byId("f-role"), level: byId("f-level"), verdict: byId("f-verdict"), q: byId("f-text") };
  const rows = [...document.querySelectorAll("tr.row")];
  const cases = [...document.querySelectorAll("details.case")];
  const texts = new Map();
  const textOf = (element) => {
    if (!texts.has(element)) {
      texts.set(element, element.textContent.toLowerCase().replace(/\s+/g, " "));
    }
    return texts.get(element);
  };
  const has = (list, separator, word) => !word || list.split(separator).includes(word);

  const matches = (element, want) => {
    const data = element.dataset;
    if (!has(data.rfc, "|", want.rfc) || !has(data.role, " ", want.role) || !has(data.level, " ", want.level)) {
      return false;
    }
    if (want.verdict === "any" ? data.verdict === "" : want.verdict === "none" ? data.verdict !== "" : !has(data.verdict, " ", want.verdict)) {
      return false;
    }
    return want.words.every((word) => textOf(element).includes(word));
  };

  const apply = () => {
    const want = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));
    want.words = want.q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !matches(row, want);
      shown += row.hidden ? 0 : 1;
    }
    for (const group of document.querySelectorAll(".matrix tbody")) {
      group.hidden = ![...group.querySelectorAll("tr.row")].some((row) => !row.hidden);
    }
    let shownCases = 0;
    for (const element of cases) {
      element.hidden = !matches(element, want);
      shownCases += element.hidden ? 0 : 1;
    }
    byId("f-count").textContent = `${shown} of ${rows.length} requirements, ${shownCases} of ${cases.length} cases`;
    const query = new URLSearchParams(Object.entries(fields).map(([name, field]) => [name, field.value]).filter(([, value]) => value));
    try {
      history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}${location.hash}`);
    } catch {
      // Some viewers forbid it for local files; the filters work all the same.
    }
  };

  // A link to a case opens it, and shows it even where the filters hide it.
  const reveal = () => {
    const target = location.hash.length > 1 ? byId(decodeURIComponent(location.hash.slice(1))) : null;
    if (!target) {
      return;
    }
    target.hidden = false;
    if (target.matches("tr.row")) {
      target.closest("tbody").hidden = false;
    }
    if (target.matches("details.case")) {
      target.open = true;
      target.querySelector("summary").focus({ preventScroll: true });
    }
    target.scrollIntoView();
  };

  const given = new URLSearchParams(location.search);
  for (const [name, field] of Object.entries(fields)) {
    field.value = given.get(name) ?? (name === "verdict" && rows.some((row) => row.dataset.verdict) ? "any" : "");
  }
  form.hidden = false;
  byId("tools").hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  addEventListener("hashchange", reveal);
  // A second click on the link that is already in the address bar makes no event of its own.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) {
      reveal();
    }
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, select, textarea")) {
      event.preventDefault();
      fields.q.focus();
    }
  });
  byId("open-bad").addEventListener("click", () => {
    for (const element of cases) {
      element.open = !element.hidden && !element.querySelector("summary .v-pass, summary .v-skipped");
    }
  });
  byId("close-all").addEventListener("click", () => cases.forEach((element) => (element.open = false)));
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll("button.copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = "Copied";
      });
    }
  }
  apply();
  reveal();
})();
