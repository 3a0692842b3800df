//! A run's results, for people and for programs.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use simulator::Run;

/// A table with a heading row and right-aligned last columns.
pub(crate) fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The end of a run as text: steps, phases, exits, TDCALLs, registers.
pub(crate) fn text(run: &Run) -> String {
    let transcript = &run.transcript;
    let mut parts = Vec::new();
    let steps = transcript.steps();
    if !steps.is_empty() {
        let rows = steps.iter().map(|step| {
            let result = if step.passed { "pass" } else { "FAIL" };
            vec![step.name.clone(), result.to_owned()]
        });
        parts.push(table(&["step", "result"], rows).to_string());
    }
    let mut before = 0;
    let phases = transcript.phases().into_iter().map(|phase| {
        let took = phase.microseconds.saturating_sub(before);
        before = phase.microseconds;
        vec![
            phase.name,
            milliseconds(phase.microseconds),
            milliseconds(took),
        ]
    });
    parts.push(table(&["boot phase reached", "at (ms, virtual)", "took"], phases).to_string());
    for (counters, what) in [
        (transcript.exits(), "L2 exits by reason"),
        (transcript.tdcalls(), "TDCALLs by leaf"),
    ] {
        let total: u64 = counters.values().sum();
        let mut rows: Vec<_> = counters.into_iter().collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        rows.push(("total".to_owned(), total));
        let rows = rows
            .into_iter()
            .map(|(name, count)| vec![name, count.to_string()]);
        parts.push(table(&[what, "count"], rows).to_string());
    }
    if let Some(report) = transcript.last("report") {
        let rows = register_rows(report);
        let mut table = table(&["final TDREPORT", "value"], rows);
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Left);
        }
        parts.push(table.to_string());
    }
    parts.push(format!(
        "ended: {} after {:.1} s",
        transcript.result(),
        run.wall.as_secs_f64()
    ));
    parts.join("\n\n")
}

fn milliseconds(microseconds: u64) -> String {
    format!("{:.3}", microseconds as f64 / 1000.0)
}

fn register_rows(report: &Value) -> Vec<Vec<String>> {
    let Value::Object(fields) = report else {
        return Vec::new();
    };
    fields
        .iter()
        .map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            vec![name.clone(), value]
        })
        .collect()
}

/// The same for programs.
pub(crate) fn json(run: &Run, ok: bool) -> Value {
    let transcript = &run.transcript;
    json!({
        "ok": ok,
        "result": transcript.result(),
        "wall_seconds": run.wall.as_secs_f64(),
        "steps": transcript.steps().iter().map(|step| json!({"name": step.name, "passed": step.passed})).collect::<Vec<_>>(),
        "phases": transcript.phases().iter().map(|phase| json!({"name": phase.name, "microseconds": phase.microseconds})).collect::<Vec<_>>(),
        "l2_exits": transcript.exits(),
        "tdcalls": transcript.tdcalls(),
        "report": transcript.last("report"),
    })
}
