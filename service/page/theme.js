// Runs before the first paint, so that a chosen theme never flashes; a plain script for that reason.
{
  const CHOICES = ["auto", "light", "dark"];
  const NAME = "vllm-wsgi.theme";
  const root = document.documentElement;

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
    const button = document.getElementById("theme-button");
    if (button) button.textContent = `Theme: ${theme}`;
  };

  apply(stored());
  addEventListener("DOMContentLoaded", () => {
    let theme = stored();
    apply(theme);
    document.getElementById("theme-button").addEventListener("click", () => {
      theme = CHOICES[(CHOICES.indexOf(theme) + 1) % CHOICES.length];
      apply(theme);
      try {
        localStorage.setItem(NAME, theme);
      } catch {
        // The choice lasts as long as the page.
      }
    });
  });
}
