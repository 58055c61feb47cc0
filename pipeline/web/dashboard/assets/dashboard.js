// What pages do beside htmx: menus that close, the browser's own time zone, waiting for a first event.
// Everything here is a convenience: pages work without scripts.

document.documentElement.classList.add("scripts");

const closeMenus = (except) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== except) menu.open = false;
  }
};

document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = event.target.closest?.("details.menu[open]");
  closeMenus();
  menu?.querySelector("summary").focus();
});

const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const link of document.querySelectorAll("[data-own-zone]")) {
  const input = link.closest("details").querySelector("[data-zone]");
  if (!ownZone || input.value === ownZone) continue;
  const url = new URL(link.href);
  url.searchParams.set("zone", ownZone);
  link.href = url;
  link.textContent = `Use ${ownZone}`;
  link.classList.remove("hidden");
}

// What says where events are now: every ten seconds, while it is seen and not in use.
setInterval(() => {
  for (const part of document.querySelectorAll("[data-live]")) {
    const isInUse = part.contains(document.activeElement) || part.querySelector("details[open]");
    if (!document.hidden && !isInUse) part.querySelector("a.refresh")?.click();
  }
}, 10_000);

// A report that is not ready: it is asked for every two seconds, while the page is seen.
setInterval(() => {
  if (!document.hidden) document.querySelector("[data-ask]")?.dispatchEvent(new Event("ask"));
}, 2000);

// The page that waits for the first event: every three seconds, while it is seen.
if (document.querySelector("[data-empty]")) {
  setInterval(() => document.hidden || location.reload(), 3000);
}
