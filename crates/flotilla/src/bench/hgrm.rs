//! Latencies as HdrHistogram writes them: text that its plotter and others read.

use std::fmt::Write as _;

use super::histogram::Histogram;

/// The distribution, a line for each latency that was seen; microseconds.
pub(crate) fn lines(histogram: &Histogram) -> String {
    let total = histogram.count();
    let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1_000.0;
    let mut out = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for (latency, seen) in histogram.steps() {
        let share = seen as f64 / total as f64;
        let _ = write!(out, "{:12.3} {share:14.12} {seen:10}", micros(latency));
        // The last line has no such number: nothing is longer.
        if seen < total {
            let _ = write!(out, " {:14.2}", total as f64 / (total - seen) as f64);
        }
        out.push('\n');
    }
    let _ = writeln!(out, "#[Mean    = {:12.3}]", micros(histogram.mean()));
    let _ =
        writeln!(out, "#[Max     = {:12.3}, Total count    = {total:12}]", micros(histogram.max()));
    out
}

/// The name of a file for this system and workload.
pub(crate) fn file_name(system: &str, label: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let words = format!("{system} {label}").replace(" %", "");
    let name: String = words.chars().map(plain).collect();
    format!("{name}.hgrm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_latency_is_a_line() {
        let mut histogram = Histogram::default();
        for nanos in [1_000, 1_000, 2_000, 4_000] {
            histogram.record(Duration::from_nanos(nanos), 1);
        }
        let text = lines(&histogram);
        let lines: Vec<Vec<&str>> =
            text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["1.003", "0.500000000000", "2", "2.00"]);
        assert_eq!(lines[2], ["4.000", "1.000000000000", "4"]);
        assert!(lines[4].ends_with(&["4]"]), "{text}");
        assert_eq!(text.lines().count(), 7);
    }

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(file_name("redis 7.0.15", "90 % get"), "redis-7-0-15-90-get.hgrm");
    }
}
