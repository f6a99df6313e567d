//! The page: a table for each group of rows.

use std::fmt::Write as _;

use serde_json::Value;

use super::measure::{Measurement, number};
use super::points::Group;
use super::syncs::Synced;

/// How ours is called.
const OURS: &str = "**Flotilla**, three nodes";

/// Everything that was measured, in Markdown.
pub(super) fn markdown(all: &[Measurement], synced: &[Synced], foot: &str) -> String {
    let mut out = "# Flotilla beside others\n\nA write of Flotilla and of etcd is on two disks of \
                   three before its reply, one of redis-server on its one disk. The last column is \
                   the median over pairs of runs, with the interval in which it lies with 95 %; \
                   the CPU is that of all servers together, for one operation. Ours is measured \
                   beside each of the others, and its line is that beside the first.\n\n\
                   ![The same as ratios](bench-vs.svg)\n"
        .to_owned();
    for group in all.chunk_by(|a, b| a.point.group == b.point.group) {
        let _ = write!(out, "\n## {}\n\n{}", group[0].point.group.title(), table(group));
    }
    out.push_str("\n## Whether they sync\n\n| | replies | syncs of each server |\n|---|--:|---|\n");
    for Synced { system, replies, syncs } in synced {
        let syncs: Vec<String> = syncs.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "| {system} | {replies} | {} |", syncs.join(", "));
    }
    let _ = write!(out, "\n{foot}\n");
    let caveats = caveats(all);
    if !caveats.is_empty() {
        out.push_str("\n**Not to be quoted:**\n\n");
        for caveat in caveats {
            let _ = writeln!(out, "- {caveat}");
        }
    }
    out
}

/// What speaks against quoting the page, each once.
pub(super) fn caveats(all: &[Measurement]) -> Vec<String> {
    let mut caveats: Vec<String> = all
        .iter()
        .flat_map(|one| one.caveats.iter().map(|what| format!("{}: {what}", one.point.title)))
        .collect();
    caveats.sort_unstable();
    caveats.dedup();
    caveats
}

fn table(group: &[Measurement]) -> String {
    let kind = group[0].point.group;
    let (header, columns) = match kind {
        Group::LeaderKilled => ("| | longest time without a reply | least to most |", 3),
        Group::Open => {
            ("| | per second | p50 | p99 | p99.9 | servers' CPU each | p99: Flotilla ÷ this |", 7)
        }
        _ => ("| | per second | p50 | p99 | p99.9 | servers' CPU each | Flotilla ÷ this |", 7),
    };
    let mut out = format!("{header}\n|---|{}\n", "--:|".repeat(columns - 1));
    for point in group.chunk_by(|a, b| a.point == b.point) {
        let _ = writeln!(out, "| **{}** {}", point[0].point.title, "|".repeat(columns));
        out.push_str(&line(OURS, kind, &point[0].ours, None));
        for one in point {
            if let Some((peer, row)) = one.peer.zip(one.theirs.as_ref()) {
                out.push_str(&line(peer.title(), kind, row, ratio(kind, &one.ours)));
            }
        }
    }
    out
}

/// What is compared in this group: `[low, median, high]`, the ends where they are known.
pub(super) fn ratio(kind: Group, ours: &Value) -> Option<[f64; 3]> {
    let of = if kind == Group::Open { "p99" } else { "operations_per_second" };
    let ratio = ours.pointer(&format!("/ratios/{of}"))?;
    let median = number(ratio, "/median")?;
    let end = |at: &str| number(ratio, at).unwrap_or(median);
    Some([end("/interval/0"), median, end("/interval/1")])
}

fn line(name: &str, kind: Group, row: &Value, ratio: Option<[f64; 3]>) -> String {
    if kind == Group::LeaderKilled {
        let gaps = row["gaps_millis"].as_array().map_or(&[][..], Vec::as_slice);
        let gaps: Vec<String> =
            gaps.iter().filter_map(Value::as_f64).map(|gap| format!("{gap:.0}")).collect();
        let ends = gaps.first().zip(gaps.last()).map(|(least, most)| format!("{least} to {most}"));
        let gap = number(row, "/longest_gap_millis").unwrap_or_default();
        return format!("| {name} | {gap:.0} ms | {} ms |\n", ends.unwrap_or_default());
    }
    let ratio = ratio.map_or_else(String::new, |[low, median, high]| {
        let interval = (low < high).then(|| format!(" ({low:.2} to {high:.2})"));
        format!("{median:.2}{}", interval.unwrap_or_default())
    });
    format!(
        "| {name} | {} | {} | {} | {} | {} | {ratio} |\n",
        thousands(number(row, "/operations_per_second").unwrap_or_default()),
        micros(number(row, "/latency_micros/p50")),
        micros(number(row, "/latency_micros/p99")),
        micros(number(row, "/latency_micros/p999")),
        micros(number(row, "/cpu_micros_per_operation/servers")),
    )
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn micros(micros: Option<f64>) -> String {
    match micros {
        None => "?".to_owned(),
        Some(micros) if micros < 9.95 => format!("{micros:.1} µs"),
        Some(micros) if micros < 999.5 => format!("{micros:.0} µs"),
        Some(micros) => format!("{:.1} ms", micros / 1_000.0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench_vs::options::Options;
    use crate::bench_vs::peers::Kind;
    use serde_json::json;

    fn row(throughput: f64) -> Value {
        json!({
            "operations_per_second": throughput,
            "latency_micros": { "p50": 8.04, "p99": 123.4, "p999": 1_234.0 },
            "cpu_micros_per_operation": { "servers": null },
        })
    }

    /// A row of this group, measured beside both.
    pub(crate) fn measured(group: Group) -> Vec<Measurement> {
        let options = Options::parse(&[]).expect("nothing is right");
        let point = group.points(&options).remove(0);
        let ratio = json!({ "median": 1.5, "interval": [1.4, 1.62], "pairs": 7 });
        let one = |peer: Kind| {
            let mut ours = row(1_234_567.0);
            ours["ratios"] = json!({ "operations_per_second": ratio, "p99": ratio });
            Measurement {
                point: point.clone(),
                peer: Some(peer),
                ours,
                theirs: Some(row(2_000.0)),
                caveats: vec!["it was loud".to_owned()],
            }
        };
        Kind::ALL.map(one).to_vec()
    }

    #[test]
    fn a_point_has_a_line_for_each_system() {
        let synced = [Synced { system: "redis".to_owned(), replies: 100, syncs: vec![101] }];
        let page = markdown(&measured(Group::Closed), &synced, "a machine");
        for line in [
            "| **SET, 16 connections** |||||||",
            "| **Flotilla**, three nodes | 1,234,567 | 8.0 µs | 123 µs | 1.2 ms | ? |  |",
            "| redis-server, one disk | 2,000 | 8.0 µs | 123 µs | 1.2 ms | ? | 1.50 (1.40 to 1.62) \
             |",
            "| redis | 100 | 101 |",
            "- SET, 16 connections: it was loud",
        ] {
            assert!(page.lines().any(|one| one == line), "{line}\nis not in\n{page}");
        }
        assert_eq!(page.matches("**Flotilla**, three nodes").count(), 1);
    }

    #[test]
    fn gaps_have_a_table_of_their_own() {
        let mut all = measured(Group::LeaderKilled);
        all[0].ours = json!({ "longest_gap_millis": 312.4, "gaps_millis": [250.0, 312.4, 400.1] });
        let page = markdown(&all, &[], "");
        let line = "| **Flotilla**, three nodes | 312 ms | 250 to 400 ms |";
        assert!(page.lines().any(|one| one == line), "{page}");
    }
}
