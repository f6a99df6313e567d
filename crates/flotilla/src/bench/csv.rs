//! Every run as a line of comma-separated values, for a spreadsheet.

use std::fmt::Write as _;

use super::report::Report;
use super::row::Row;

const HEADER: &str = "system,workload,round,loop,connections,pipeline,value_bytes,keys,\
    distribution,offered_per_second,operations,errors,nulls,unanswered,broken_connections,seconds,\
    operations_per_second,mean_micros,p50_micros,p90_micros,p99_micros,p999_micros,p9999_micros,\
    max_micros,longest_gap_millis,servers_cpu_micros,generator_cpu_micros,steal_percent,\
    foreign_percent,disturbed";

/// The lines, the names of the columns first. What is not known is empty.
pub(crate) fn lines(report: &Report) -> String {
    let mut out = format!("{HEADER}\n");
    let mut former: Option<(&Row, usize)> = None;
    for row in &report.runs {
        let same = former
            .filter(|(former, _)| (&former.system, &former.label) == (&row.system, &row.label));
        let round = same.map_or(1, |(_, round)| round + 1);
        former = Some((row, round));
        let settings = &report.settings;
        let (latency, cpu) = (row.latency_micros, row.cpu_micros_per_operation);
        let known = |number: Option<f64>| number.map_or_else(String::new, |n| format!("{n:.3}"));
        let _ = writeln!(
            out,
            "{},{},{round},{},{},{},{},{},{},{},{},{},{},{},{},{:.3},{:.1},{:.3},{:.3},{:.3},{:.3},\
             {:.3},{:.3},{:.3},{:.3},{},{},{:.2},{},{}",
            quoted(&row.system),
            row.label,
            settings.r#loop,
            settings.connections,
            settings.pipeline,
            settings.value_bytes,
            settings.keys,
            row.distribution,
            known(row.offered_per_second),
            row.operations,
            row.errors,
            row.nulls,
            row.unanswered,
            row.broken_connections,
            row.seconds,
            row.operations_per_second,
            latency.mean,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.p9999,
            latency.max,
            row.longest_gap_millis,
            known(cpu.servers),
            known(cpu.generator),
            row.steal_percent,
            known(row.foreign_percent),
            quoted(row.disturbed_by.as_deref().unwrap_or_default()),
        );
    }
    out
}

/// Text of others [RFC 4180].
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Machine, Settings};
    use crate::bench::row;

    #[test]
    fn a_line_has_as_many_values_as_columns() {
        let mut rows = vec![row::tests::row(10, 0), row::tests::row(20, 1)];
        rows[1].disturbed_by = Some("a \"build\", and more".to_owned());
        let settings = Settings {
            r#loop: "closed",
            connections: 1,
            pipeline: 1,
            value_bytes: "16..64".parse().expect("two sizes"),
            keys: 10,
            rounds: 2,
            warmup_seconds: 0.0,
        };
        let machine = Machine::here();
        let (results, caveats) = (vec![], vec![]);
        let report = Report { quotable: true, caveats, machine, settings, results, runs: rows };
        let text = lines(&report);
        let lines: Vec<&str> = text.lines().collect();
        let columns = HEADER.split(',').count();
        assert_eq!(lines[1].split(',').count(), columns, "{}", lines[1]);
        assert!(lines[1].starts_with("flotilla 0,set,1,closed,1,1,16..64,10,uniform,,10,0,"));
        assert!(lines[2].starts_with("flotilla 0,set,2,"), "{}", lines[2]);
        assert!(lines[2].ends_with(",\"a \"\"build\"\", and more\""), "{}", lines[2]);
    }
}
