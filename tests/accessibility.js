// What hinders people who cannot see the page as drawn: a list of sentences, empty where nothing does. The rules are
// those that axe calls serious or critical and that a page without scripts and forms can break.
function hindrances(page) {
  const view = page.defaultView, found = [];
  const all = query => [...page.querySelectorAll(query)];
  const text = element => (element?.textContent ?? "").trim().replace(/\s+/g, " ").slice(0, 50);
  const style = element => view.getComputedStyle(element);
  const tell = (rule, elements) => elements.forEach(each => found.push(`${rule}: <${each.localName}> ${text(each)}`));

  const named = element => {
    const ids = (element.getAttribute("aria-labelledby") ?? "").split(/\s+/).filter(Boolean);
    return (element.getAttribute("aria-label") ?? element.getAttribute("alt") ?? "").trim() !== "" ||
      (ids.length > 0 && ids.every(id => text(page.getElementById(id)) !== ""));
  };
  if (!page.documentElement.lang) found.push("no language");
  if (!page.title.trim()) found.push("no title");
  if (all("main").length !== 1) found.push("not one main part");
  if (all("h1").length !== 1) found.push("not one first heading");
  const zoom = page.querySelector("meta[name=viewport]")?.content ?? "";
  if (/user-scalable\s*=\s*no|maximum-scale/.test(zoom)) found.push("cannot be zoomed");
  tell("picture without a name", all("img, svg, [role=img]").filter(
    each => !each.closest("[aria-hidden=true]") && !named(each)));
  tell("region without a name", all("[role=region], [role=table], nav, section").filter(each => !named(each)));
  const regions = all("[role=region], nav").map(each => each.getAttribute("aria-label"));
  tell("regions of one name", all("[role=region], nav").filter((each, place) => regions.indexOf(regions[place]) !== place));
  tell("link without a text", all("a").filter(each => text(each) === ""));
  tell("link that leads nowhere", all("a[href^='#']").filter(
    each => !page.getElementById(decodeURIComponent(each.hash.slice(1)))));
  const ids = all("[id]").map(each => each.id);
  tell("id that occurs twice", all("[id]").filter((each, place) => ids.indexOf(each.id) !== place));

  let before = 0;
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const level = Number(heading.localName[1]);
    if (level > before + 1) tell("heading that skips a level", [heading]);
    before = level;
  }
  tell("table without a caption", all("table").filter(each => text(each.caption) === ""));
  tell("head cell without a scope", all("th").filter(each => !each.scope));
  tell("row without a head", all("tbody tr").filter(each => !each.querySelector("th[scope=row]")));
  tell("list with other things in it", all("ul > :not(li), ol > :not(li), dl > :not(div):not(dt):not(dd)"));
  tell("focusable and hidden", all("[aria-hidden=true] :is(a, [tabindex='0'])"));
  tell("scrolls out of reach of the keyboard", all("*").filter(each =>
    each.scrollWidth > each.clientWidth + 1 && /auto|scroll/.test(style(each).overflowX) && each.tabIndex < 0));

  const channels = colour => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const over = (top, below) => top.slice(0, 3).map((each, i) => each * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
  const bright = colour => {
    const [r, g, b] = colour.map(each => each / 255).map(
      each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(channels(style(each).backgroundColor));
    return layers.reverse().reduce((below, top) => top.length ? over(top, below) : below, [255, 255, 255]);
  };
  const inks = all("body *").filter(each => !each.closest("svg, [aria-hidden=true]") && each.getClientRects().length &&
    [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  for (const element of inks) {
    const own = style(element), back = ground(element), ink = over(channels(own.color), back);
    const [high, low] = [bright(ink), bright(back)].sort((a, b) => b - a);
    const size = parseFloat(own.fontSize), large = size >= 24 || (size >= 18.66 && Number(own.fontWeight) >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) tell(`contrast of ${ratio.toFixed(2)}`, [element]);
  }
  return found;
}
