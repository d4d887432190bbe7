// The theme's search is a dialog without a name for screen readers.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
