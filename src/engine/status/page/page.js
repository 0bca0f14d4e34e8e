"use strict";
// Draws what /status.json says, every few seconds. Everything that came from elsewhere is text, never markup.
const INTERVAL = 5000;
const NAMES = { delivered: "delivered", deferred: "deferred", failed: "failed", accepted: "accepted" };
let span = "hour";
let last = null;

const by = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  for (const child of children) element.append(child);
  return element;
}

function draw(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const show = (id, ...children) => by(id).replaceChildren(...children);
const none = (text) => make("p", { class: "none" }, text);
const count = (number) => number.toLocaleString("en");

function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [length, name] of units) {
    if (seconds >= 2 * length || (seconds >= length && seconds % length === 0)) return `${Math.floor(seconds / length)} ${name}`;
  }
  return `${Math.floor(seconds)} s`;
}

function micros(value) {
  if (value === null) return "–";
  if (value < 1000) return `${value} µs`;
  if (value < 1e6) return `${value / 1000} ms`;
  return duration(value / 1e6);
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${value < 10 ? Math.floor(value * 10) / 10 : Math.floor(value)} ${units[at]}`;
}

// Columns are [name, class]; cells are texts or elements.
function table(columns, rows, style) {
  const head = make("tr", {}, ...columns.map(([name, kind]) => make("th", { class: kind || "", scope: "col" }, name)));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell, at) => {
    const [name, kind] = columns[at];
    const attributes = name ? { class: kind || "", "data-name": name } : { class: kind || "" };
    return make("td", attributes, cell === null ? "–" : cell);
  })));
  return make("table", style ? { class: style } : {}, make("thead", {}, head), make("tbody", {}, ...body));
}

// One bar of parts, each [value, class], out of a whole.
function bar(parts, whole) {
  const svg = draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  for (const [value, kind] of parts) {
    const width = whole > 0 ? (100 * value) / whole : 0;
    if (width > 0) svg.append(draw("rect", { x, y: 0, width, height: 10, class: kind }));
    x += width;
  }
  return svg;
}

function bars(names, values) {
  const most = Math.max(1, ...values);
  const rows = names.map((name, at) => [name, bar([[values[at], "calm"]], most), count(values[at])]);
  return table([["", "short"], ["", "bar"], ["", "number"]], rows);
}

function throughput(status) {
  const slots = status[span];
  const width = Math.max(280, by("throughput").clientWidth);
  const [height, left, bottom] = [176, 44, 20];
  const stacked = slots.map((slot) => slot.delivered + slot.deferred + slot.failed);
  const most = Math.max(1, ...stacked, ...slots.map((slot) => slot.accepted));
  const y = (value) => (height - bottom) * (1 - value / most);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Recipients in the last ${span}` });
  const label = (x, at, anchor, text) => {
    const element = draw("text", { x, y: at, "text-anchor": anchor });
    element.textContent = text;
    svg.append(element);
  };
  svg.append(draw("line", { x1: left, x2: width, y1: y(0), y2: y(0), class: "grid" }));
  svg.append(draw("line", { x1: left, x2: width, y1: y(most) + 1, y2: y(most) + 1, class: "grid" }));
  label(left - 6, 11, "end", count(most));
  label(left - 6, height - bottom, "end", "0");
  const step = (width - left) / slots.length;
  const points = [];
  slots.forEach((slot, at) => {
    let base = 0;
    for (const kind of ["delivered", "deferred", "failed"]) {
      const value = slot[kind];
      if (value > 0) {
        svg.append(draw("rect", {
          x: left + at * step + step * 0.12, width: step * 0.76, y: y(base + value), height: y(base) - y(base + value), class: kind,
        }));
      }
      base += value;
    }
    points.push(`${left + (at + 0.5) * step},${y(slot.accepted)}`);
  });
  svg.append(draw("polyline", { points: points.join(" "), class: "accepted" }));
  const begin = span === "hour" ? "1 h ago" : "1 d ago";
  label(left, height - 5, "start", begin);
  label(width, height - 5, "end", "now");
  show("throughput", svg);
  const totals = (kind) => slots.reduce((sum, slot) => sum + slot[kind], 0);
  show("legend", ...Object.keys(NAMES).map((kind) => {
    const sign = draw("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
    sign.append(kind === "accepted"
      ? draw("line", { x1: 0, x2: 10, y1: 5, y2: 5, class: "accepted" })
      : draw("rect", { width: 10, height: 10, class: kind }));
    return make("span", {}, sign, `${count(totals(kind))} ${NAMES[kind]}`);
  }));
}

function tiles(status) {
  const sum = (kind) => status.hour.reduce((total, slot) => total + slot[kind], 0);
  const tile = (value, name, kind) => make("div", { class: `tile ${kind || ""}` }, make("b", {}, value), make("span", {}, name));
  const { stats } = status;
  const old = status.ages.slice(3).reduce((total, age) => total + age.messages, 0);
  show("tiles",
    tile(count(stats.queued), stats.held ? `in the queue, ${count(stats.held)} held` : "in the queue", old ? "wait" : ""),
    tile(count(sum("accepted")), "accepted in an hour"),
    tile(count(sum("delivered")), "delivered in an hour"),
    tile(count(sum("deferred")), "deferred in an hour", sum("deferred") ? "wait" : ""),
    tile(count(sum("failed")), "failed in an hour", sum("failed") ? "bad" : ""),
    tile(`${count(stats.sessions)} / ${count(stats.deliveries)}`, "sessions in / out"),
    tile(bytes(stats.buffered), `in buffers, of ${bytes(status.memory_max)}`),
    tile(status.disk_free === null ? "–" : bytes(status.disk_free), "free for the spool"));
}

function trouble(status) {
  if (!status.disk_takes_records) return "The disk does not take records: nothing is sent until it does. See the journal of the service.";
  const now = status.now;
  const ended = status.certificates.filter((one) => one.until <= now);
  if (ended.length > 0) return `The certificate ${ended[0].name} has ended. Run: chopar cert list`;
  return null;
}

function certificates(status) {
  const rows = status.certificates.map((one) => {
    const days = Math.floor((one.until - status.now) / 86400);
    const kind = days < 1 ? "bad" : days < 20 || one.self_signed ? "wait" : "good";
    const note = one.self_signed ? "made here, trusted by nobody" : "";
    return [one.name, note, make("span", { class: kind }, days < 0 ? "ended" : `${days} days`)];
  });
  return rows.length > 0 ? table([["name", ""], ["", ""], ["left", "number"]], rows) : none("None is served.");
}

function fill(status) {
  last = status;
  document.title = `${status.stats.queued} · ${status.hostname}`;
  by("hostname").textContent = status.hostname;
  by("about").textContent = `chopar ${status.version}, up ${duration(status.uptime)}`;
  const wrong = trouble(status);
  const pill = by("health");
  pill.textContent = wrong ? "in trouble" : "running";
  pill.className = `pill ${wrong ? "bad" : "good"}`;
  by("banner").hidden = !wrong;
  by("banner").textContent = wrong || "";
  tiles(status);
  throughput(status);
  let from = null;
  const ages = status.ages.map((age) => {
    const name = age.below === null ? `over ${duration(from)}` : `under ${duration(age.below)}`;
    from = age.below;
    return name;
  });
  show("ages", bars(ages, status.ages.map((age) => age.messages)));
  const most = Math.max(1, ...status.providers.map((one) => one.delivered + one.deferred + one.failed));
  show("providers", status.providers.length === 0 ? none("Nothing has been sent yet.") : table(
    [["", "short"], ["", "bar"], ["ok", "number"], ["later", "number"], ["failed", "number"]],
    status.providers.map((one) => [one.name,
      bar([[one.delivered, "delivered"], [one.deferred, "deferred"], [one.failed, "failed"]], most),
      count(one.delivered), count(one.deferred), count(one.failed)])));
  const timing = (name, one) => [name, micros(one.p50), micros(one.p95), micros(one.p99)];
  show("timings", table([["at most, for", ""], ["half", "number"], ["95 %", "number"], ["99 %", "number"]], [
    timing("accepted to on the disk", status.commit),
    timing("on the disk to delivered", status.delivery),
    timing("a batch of the journal", status.sync),
  ]));
  const reasons = Object.entries(status.deferred).map(([name, value]) => [name, value + (status.unreached[name] || 0)]);
  const some = reasons.filter(([, value]) => value > 0).sort((one, other) => other[1] - one[1]);
  show("reasons", some.length === 0 ? none("None was.") : bars(some.map(([name]) => name), some.map(([, value]) => value)));
  show("hops", status.hops.length === 0 ? none("Nothing waits.") : table(
    [["next hop", ""], ["recipients", "number"], ["next attempt", "short"], ["why", ""]],
    status.hops.map((hop) => [hop.name, count(hop.waiting),
      hop.next === null ? (hop.sessions > 0 ? "under way" : "as each is due") : `in ${duration(hop.next)}`, hop.why])));
  show("stuck", status.stuck.length === 0 ? none("The queue is empty.") : table(
    [["id", "short"], ["age", "number"], ["size", "number"], ["attempts", "number"], ["next hop", ""], ["why", ""]],
    status.stuck.map((one) => [make("code", {}, one.id), duration(one.age), bytes(one.size), one.attempts === 0 ? "none" : count(one.attempts), one.hop,
      one.held ? "held by an operator" : one.why])));
  show("certificates", certificates(status));
  const shares = [["received", status.received_with], ["sent", status.sent_with], ["DMARC of received", status.dmarc]];
  show("shares", table([["", ""], ["", ""], ["", "number"]], shares.flatMap(([name, counts]) =>
    Object.entries(counts).filter(([, value]) => value > 0).map(([kind, value]) => [name, kind === "none" && name !== "DMARC of received" ? "no TLS" : kind, count(value)]))));
  if (by("shares").querySelector("tbody").children.length === 0) show("shares", none("Nothing has come or gone yet."));
  const events = status.events.slice().reverse();
  show("events", events.length === 0 ? none("Nothing has happened yet.") : table([["time", "short"], ["event", ""]],
    events.map((one) => [new Date(one.at * 1000).toLocaleTimeString(), one.text]), "events"));
  by("updated").textContent = `as of ${new Date(status.now * 1000).toLocaleString()}`;
}

function copying(text) {
  const button = make("button", {}, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "selected";
    }
  });
  return button;
}

function checked(list) {
  by("checklist-section").hidden = false;
  const states = { bad: "bad", unknown: "wait", warning: "wait" };
  const open = list.findings.filter((one) => one.state in states);
  const good = list.findings.filter((one) => one.state === "good").length;
  by("checked").textContent = `${good} checks good, ${open.length} to look at; chopar doctor, ${new Date(list.at * 1000).toLocaleString()}`;
  show("checklist", open.length === 0 ? none("Nothing is to be done.") : table([["", "short"], ["", ""]], open.map((one) => {
    const about = one.about ? ` (${one.about})` : "";
    const text = make("div", {}, make("b", {}, `${one.title}${about}: `), one.seen, make("div", { class: "dim" }, one.why));
    if (one.mend) text.append(make("div", {}, make("code", { class: "record" }, one.mend), copying(one.mend)));
    return [make("span", { class: states[one.state] }, one.state), text];
  })));
}

// What others report about mail in the name of our domains.
function reported(page) {
  by("reports-section").hidden = false;
  const kinds = { own: "this host", allowed: "allowed by SPF", service: "service", forwarder: "forwarder", unknown: "unknown" };
  const passed = (one) => one.both + one.dkim + one.spf;
  const domains = page.domains.map((one) => {
    const box = make("div", {}, make("h3", {}, one.domain), make("p", {},
      `${count(passed(one.messages))} passed, ${count(one.messages.neither)} failed in ${one.days_asked} days` +
      (one.reporters.length > 0 ? `, said by ${one.reporters.slice(0, 6).join(", ")}` : "") +
      (one.unverified > 0 ? `; ${count(one.unverified)} in reports of nobody that can be shown` : "")));
    if (one.days.length > 0) {
      const most = Math.max(1, ...one.days.map((day) => day.passed + day.failed));
      box.append(table([["day", "short"], ["", "bar"], ["passed", "number"], ["failed", "number"]], one.days.slice(-14).map((day) =>
        [day.day, bar([[day.passed, "delivered"], [day.failed, "failed"]], most), count(day.passed), count(day.failed)]), "days"));
    }
    if (one.sources.length > 0) {
      box.append(table([["who", "short"], ["what", "short"], ["passed", "number"], ["failed", "number"], ["in words", ""]], one.sources.map((from) => {
        const style = from.messages.neither === 0 ? "good" : from.kind === "unknown" ? "bad" : "wait";
        return [from.who, make("span", { class: style }, kinds[from.kind] || from.kind),
          count(passed(from.messages)), count(from.messages.neither), from.words];
      })));
    }
    if (one.tls.length > 0) {
      box.append(table([["TLS, said by", ""], ["with TLS", "number"], ["failed", "number"], ["why", ""]], one.tls.map((tls) =>
        [tls.reporter, count(tls.successes), count(tls.failures), tls.words])));
    }
    box.append(make("p", {}, make("b", {}, "Next: "), one.advice));
    return box;
  });
  const refused = Object.entries(page.tally.refused);
  if (refused.length > 0) {
    domains.push(make("p", { class: "dim" }, `Not taken: ${refused.map(([name, value]) => `${name} ${count(value)}`).join(", ")}`));
  }
  show("reports", ...(domains.length > 0 ? domains : [none("No report has come yet.")]));
}

async function askReports() {
  try {
    const response = await fetch("/reports.json", { cache: "no-store" });
    if (response.ok) reported(await response.json());
  } catch {
    // As below.
  }
}

async function askSeldom() {
  askReports();
  try {
    const response = await fetch("/doctor.json", { cache: "no-store" });
    if (response.ok) checked(await response.json());
  } catch {
    // What is shown was found before; that the relay does not answer is said elsewhere.
  }
}

async function ask() {
  try {
    const response = await fetch("/status.json", { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    fill(await response.json());
  } catch (error) {
    const pill = by("health");
    pill.textContent = "no answer";
    pill.className = "pill bad";
    by("banner").hidden = false;
    by("banner").textContent = `The relay does not answer (${error.message}). What stands here is what it said last.`;
  }
}

for (const which of ["hour", "day"]) {
  by(which).addEventListener("click", () => {
    span = which;
    for (const one of ["hour", "day"]) by(one).setAttribute("aria-pressed", String(one === which));
    if (last) throughput(last);
  });
}
addEventListener("resize", () => { if (last) throughput(last); });
ask();
askSeldom();
setInterval(() => { if (!document.hidden) askSeldom(); }, 12 * INTERVAL);
setInterval(() => { if (!document.hidden) ask(); }, INTERVAL);
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
