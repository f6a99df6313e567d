//! A story as a message sequence chart: one page of HTML that needs nothing else. Its symbols are
//! explained on the page, and in `docs/internals/sim.md`.

use std::fmt::Write as _;

use crate::story::{Replay, Told};

/// Width of a lifeline's column, pixels.
const COLUMN: usize = 190;
/// Left of the first lifeline stand the times.
const LEFT: usize = 110;
/// Height of a row, pixels.
const ROW: usize = 18;
/// More rows than this are cut off, with a word about it.
const ROWS_MAX: usize = 6_000;

const STYLE: &str = "\
body{font:13px system-ui,sans-serif;margin:1em;color:#222;background:#fff}
svg text{font:11px ui-monospace,monospace}
.life{stroke:#bbb}.up{fill:#cfe8cf}.fault{fill:#b00020;font-weight:bold}.time{fill:#888}
.raft{stroke:#3367d6}.other{stroke:#999}.client{stroke:#188038}.note{fill:#555}
.leads{fill:#b06000;font-weight:bold}.failed{fill:#fff;background:#b00020}
pre{background:#f6f6f6;padding:.6em}
@media(prefers-color-scheme:dark){body{background:#151515;color:#ddd}pre{background:#222}
.life{stroke:#444}.up{fill:#224422}.note{fill:#aaa}svg text{fill:#ddd}.fault{fill:#ff6b81}}";

const LEGEND: &str = "<p><b>Legend.</b> A column is a node; the last one stands for all clients. \
Time goes down, not to scale: a row is one happening, its time in seconds stands on the left. A \
<span style=\"color:#3367d6\">blue arrow</span> is what one node sends another, drawn when it \
arrives: <code>s1/t4:Append(7..=9,commit=6)</code> is an append of shard 1 in term 4. A \
<span style=\"color:#188038\">green arrow</span> is a request of a client or its answer. \
Words on a \
lifeline are what a node does or comes to be: ▲ it is up, ▼ it is gone, ★ it leads, ⟳ its state \
after a change. <span style=\"color:#b00020\">✖ red words</span> are faults, ✔ repairs.</p>";

impl Replay {
    /// The chart of what happened from one moment to another, in seconds. Heartbeats and their
    /// answers are left out unless `all` is wanted.
    pub fn chart(&self, from: f64, until: f64, all: bool) -> String {
        let within =
            |told: &&Told| told.at.parse::<f64>().is_ok_and(|at| (from..=until).contains(&at));
        let mut rows: Vec<&Told> =
            self.lines.iter().filter(within).filter(|told| all || !is_idle(&told.what)).collect();
        let cut = rows.len().saturating_sub(ROWS_MAX);
        rows.truncate(ROWS_MAX);
        let nodes = self.script.config().layout.nodes.len();
        let mut page = String::new();
        let title = format!("seed {} ({})", self.script.seed, self.script.family);
        let put = "a string takes everything";
        write!(
            page,
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <style>{STYLE}</style><h1>{title}</h1>{LEGEND}\
             <details><summary>The script</summary><pre>{}</pre></details>",
            escaped(&self.script.to_string())
        )
        .expect(put);
        let (width, height) = (LEFT + COLUMN * (nodes + 1) + 260, ROW * (rows.len() + 3));
        write!(page, "<svg width=\"{width}\" height=\"{height}\" role=\"img\">").expect(put);
        page.push_str(
            "<defs><marker id=\"tip\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"3\" \
             orient=\"auto\"><path d=\"M0,0 L7,3 L0,6 z\"/></marker></defs>",
        );
        for column in 0..=nodes {
            let name =
                if column < nodes { format!("node {}", column + 1) } else { "clients".into() };
            let x = x_of(column);
            write!(
                page,
                "<text x=\"{x}\" y=\"14\" text-anchor=\"middle\">{name}</text>\
                 <line class=\"life\" x1=\"{x}\" x2=\"{x}\" y1=\"20\" y2=\"{height}\"/>"
            )
            .expect(put);
        }
        for (number, told) in rows.iter().enumerate() {
            row(&mut page, told, ROW * (number + 2), nodes);
        }
        page.push_str("</svg>");
        if cut > 0 {
            write!(page, "<p>{cut} more rows are cut off: ask for a shorter time.</p>").expect(put);
        }
        page.push_str("</html>\n");
        page
    }
}

/// Whether a line is of the kind that there is most of and that says least.
fn is_idle(what: &str) -> bool {
    let Some(message) = what.strip_prefix("message node-") else {
        return what.contains("on disk, all to");
    };
    let words = message.split(' ').skip(2);
    let mut words = words.filter(|word| !word.is_empty());
    words.all(|word| {
        word.contains("Heartbeat(") || word.contains(":Matched(") || word.starts_with("Claims(")
    })
}

fn x_of(column: usize) -> usize {
    LEFT + COLUMN / 2 + COLUMN * column
}

/// The column of a party: `node-3` or `client-7`.
fn column_of(party: &str, nodes: usize) -> Option<usize> {
    match party.split_once('-')? {
        ("node", number) => number.parse::<usize>().ok()?.checked_sub(1),
        _ => Some(nodes),
    }
}

fn row(page: &mut String, told: &Told, y: usize, nodes: usize) {
    let put = "a string takes everything";
    write!(page, "<text class=\"time\" x=\"4\" y=\"{y}\">{}</text>", escaped(&told.at)).expect(put);
    let words: Vec<&str> = told.what.splitn(4, ' ').collect();
    let (class, x, text) = match words.as_slice() {
        ["message", from, to, what] => {
            if let (Some(from), Some(to)) = (column_of(from, nodes), column_of(to, nodes)) {
                arrow(page, (from, to), y, what, nodes);
            }
            return;
        }
        ["node", number, rest @ ..] => {
            let rest = rest.join(" ");
            let sign = match rest.as_str() {
                rest if rest.starts_with("is up") => "▲ ",
                rest if rest.starts_with("loses its power") => "▼ ",
                _ => "",
            };
            let x = number.parse::<usize>().map_or(4, |number| x_of(number.saturating_sub(1)) + 4);
            ("note", x, format!("{sign}{rest}"))
        }
        ["state", number, shard, state] => {
            let leads = state.starts_with("leads");
            let (class, sign) = if leads { ("leads", '★') } else { ("note", '⟳') };
            let x = number.parse::<usize>().map_or(4, |number| x_of(number.saturating_sub(1)) + 4);
            (class, x, format!("{sign} shard {shard} {state}"))
        }
        ["client", ..] => ("note", x_of(nodes) + 4, told.what.clone()),
        ["fault", ..] => ("fault", LEFT, format!("✖ {}", told.what)),
        ["FAILED:", ..] => ("fault", LEFT, format!("✖✖ {}", told.what)),
        _ => ("note", LEFT, format!("✔ {}", told.what)),
    };
    let text: String = text.chars().take(110).collect();
    write!(page, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(&text))
        .expect(put);
}

fn arrow(page: &mut String, (from, to): (usize, usize), y: usize, what: &str, nodes: usize) {
    let class = match (from == nodes || to == nodes, what.contains("/t")) {
        (true, _) => "client",
        (_, true) => "raft",
        _ => "other",
    };
    let (start, end) = (x_of(from), x_of(to));
    let text: String = what.chars().take(80).collect();
    let x = start.min(end) + 6;
    let tip = y + 3;
    write!(
        page,
        "<line class=\"{class}\" x1=\"{start}\" x2=\"{end}\" y1=\"{tip}\" y2=\"{tip}\" \
         marker-end=\"url(#tip)\"/><text x=\"{x}\" y=\"{y}\">{}</text>",
        escaped(&text)
    )
    .expect("a string takes everything");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use crate::script::Script;
    use crate::story::{Replay, trace_of};

    #[test]
    fn a_run_is_drawn_with_its_nodes_messages_and_faults() {
        let (text, outcome) = trace_of(&Script::of("leaders crash", 1));
        outcome.expect("it goes well");
        let replay = Replay::parse(&text).expect("it is a trace");
        let page = replay.chart(0.0, 4.0, false);
        for part in
            ["<svg", "node 1", "AskVote", "✖ fault", "▼ loses its power", "★ shard", "</html>"]
        {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(!page.contains("NaN") && page.len() < 4 << 20, "{} bytes", page.len());
        let idle = "Heartbeat(";
        let all = replay.chart(0.0, 4.0, true);
        assert!(all.matches(idle).count() > page.matches(idle).count());
    }
}
