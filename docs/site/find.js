// In the browser, behind the library and the texts: finds, and shows what was found below the field.
const finder = new MiniSearch({
  fields: ["heading", "page", "text"],
  storeFields: ["heading", "page"],
  searchOptions: { boost: { heading: 4, page: 2 }, prefix: true, fuzzy: 0.15, combineWith: "AND" },
});
finder.addAll(parts);

const field = document.getElementById("search");
const found = document.getElementById("found");
const { base } = document.documentElement.dataset;

function show() {
  const hits = field.value.trim().length < 2 ? [] : finder.search(field.value).slice(0, 12);
  found.replaceChildren(
    ...hits.map(({ id, heading, page }) => {
      const link = document.createElement("a");
      link.href = `${base}/${id}`;
      link.textContent = heading;
      const item = document.createElement("li");
      item.append(link, heading === page ? "" : ` · ${page}`);
      return item;
    }),
  );
  const said = document.getElementById("found-count");
  said.textContent = field.value.trim().length < 2 ? "" : `${hits.length === 0 ? "nothing" : hits.length} found`;
}
field.addEventListener("input", show);
field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    field.value = "";
    show();
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    found.querySelector("a")?.focus();
  } else if (event.key === "Enter") {
    event.preventDefault();
    found.querySelector("a")?.click();
  }
});
show();
