// The things that must hold before the first paint, so that nothing flashes or jumps: the theme, the view, and which
// panels are folded. A plain script, since modules run after that paint.
{
  const THEMES = ["auto", "light", "dark"];
  const NAME = "vllm-wsgi.theme";
  const root = document.documentElement;
  const wide = matchMedia("(min-width: 68rem) and (min-height: 32rem)");
  const byId = (id) => document.getElementById(id);

  const stored = () => {
    try {
      return localStorage.getItem(NAME) ?? "auto";
    } catch {
      return "auto"; // A browser that blocks storage.
    }
  };

  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    if (byId("theme-button")) byId("theme-button").textContent = `Theme: ${theme}`;
  };

  /** On a small window the request is folded, so that the conversation is seen first. */
  const fold = () => {
    if (byId("request-panel")) byId("request-panel").open = wide.matches;
    if (byId("wire-panel") && wide.matches) byId("wire-panel").open = true;
    // On a large window nothing is folded, by mouse or by key.
    for (const summary of document.querySelectorAll(".playground > .panel > summary")) summary.tabIndex = wide.matches ? -1 : 0;
  };

  /** Show the view that the address names; return its name. */
  const showView = () => {
    const views = ["playground", "live", "models"];
    const asked = location.hash.slice(1);
    const view = views.includes(asked) ? asked : views[0];
    for (const name of views) if (byId(name)) byId(name).hidden = name !== view;
    for (const link of document.querySelectorAll("nav [data-view]")) {
      if (link.dataset.view === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    return view;
  };

  apply(stored());
  // The parser's additions are seen before they are painted.
  const parsing = new MutationObserver(() => {
    fold();
    showView();
  });
  parsing.observe(root, { childList: true, subtree: true });

  addEventListener("DOMContentLoaded", () => {
    parsing.disconnect();
    fold();
    showView();
    wide.addEventListener("change", fold);
    addEventListener("hashchange", showView);
    let theme = stored();
    apply(theme);
    byId("theme-button").addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      apply(theme);
      try {
        localStorage.setItem(NAME, theme);
      } catch {
        // The choice lasts as long as the page.
      }
    });
  }, { once: true });
}
