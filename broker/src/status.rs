//! The operator's page: machines, live epochs, last verdicts with the verifier's table, the last events.
//!
//! Plain HTML without scripts. Everything on it is escaped: names are the operator's, texts of verdicts have bytes of
//! evidence in them.

use crate::attest::{Judged, Row};
use crate::store::{Event, Machine};
use broker_ledger::Standing;
use broker_protocol::ledger::Commit;
use init_data::Rollback;
use std::fmt::Write;

const STYLE: &str = "
:root { color-scheme: light dark; background: light-dark(#fff, #16181c); color: light-dark(#1b1d21, #e4e6ea);
  font-family: system-ui, sans-serif; line-height: 1.45 }
body { margin: 1.5rem auto; max-width: 78rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid #8886;
  overflow-wrap: anywhere }
th, td[class] { overflow-wrap: normal }
code { font-size: .85em }
.refused, .failed, .revoked, .restored { color: light-dark(#b00020, #ff8f8f); font-weight: 600 }
.accepted, .not-reached { color: light-dark(#7a4b00, #f0b860) }
@media (max-width: 50rem) {
  table, tbody, tr, td { display: block } thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; width: 1px }
  td { border: 0; padding: .1rem 0 } tr { border-bottom: 1px solid #8886; padding: .4rem 0 }
}
";

/// The page.
pub fn page(machines: &[Machine], events: &[Event]) -> String {
    let mut html = String::new();
    // A `String` takes everything.
    let _ = write(&mut html, machines, events);
    html
}

/// A text in HTML: nothing in it is markup, and nothing is invisible.
fn text(text: &str) -> String {
    verifier::printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn write(html: &mut String, machines: &[Machine], events: &[Event]) -> std::fmt::Result {
    write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Key broker</title><style>{STYLE}</style></head><body><main>\
         <h1>Key broker</h1><h2>Machines</h2>"
    )?;
    match machines {
        [] => html.push_str("<p>No machine is enrolled.</p>"),
        machines => table(html, machines)?,
    }
    for machine in machines {
        verdict(html, machine)?;
    }
    html.push_str(
        "<h2>Last events</h2><table role=\"table\" id=\"events\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\">Time<th role=\"columnheader\">Machine<th role=\"columnheader\">Event<th role=\"columnheader\">Detail</thead><tbody role=\"rowgroup\">",
    );
    for event in events {
        let machine = event.machine.map_or_else(String::new, |id| id.to_string());
        let name = machines
            .iter()
            .find(|machine| Some(machine.id) == event.machine);
        let name = name.map_or(machine.as_str(), |machine| &machine.name);
        write!(
            html,
            "<tr role=\"row\"><td role=\"cell\">{}<td role=\"cell\">{}<td role=\"cell\">{}<td role=\"cell\"><code>{}</code>",
            time(event.time),
            text(name),
            text(&event.event),
            text(&event.detail)
        )?;
    }
    html.push_str("</tbody></table></main></body></html>\n");
    Ok(())
}

fn table(html: &mut String, machines: &[Machine]) -> std::fmt::Result {
    html.push_str(
        "<table role=\"table\" id=\"machines\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\">Name<th role=\"columnheader\">Machine<th role=\"columnheader\">Standing<th role=\"columnheader\">Live epoch<th role=\"columnheader\">Latest commit<th role=\"columnheader\">Last \
         verdict</thead><tbody role=\"rowgroup\">",
    );
    for machine in machines {
        let standing = match machine.entry.standing {
            Standing::Enrolled => "enrolled",
            Standing::Revoked => "revoked",
            Standing::Restored => "restored",
        };
        let (epoch, latest) = match machine.rollback {
            Rollback::None => ("not counted".into(), String::new()),
            Rollback::Ledger | Rollback::Lazy => (
                match machine.entry.epoch {
                    0 => "none yet".into(),
                    epoch => format!("epoch {epoch}"),
                },
                machine
                    .entry
                    .latest
                    .as_ref()
                    .map_or_else(|| "none yet".into(), commit),
            ),
        };
        let verdict = judged(machine).map_or_else(
            || "none yet".into(),
            |judged| {
                format!(
                    "<span class=\"{0}\">{0}</span>, {1}",
                    text(&judged.verdict),
                    time(judged.time)
                )
            },
        );
        write!(
            html,
            "<tr role=\"row\"><td role=\"cell\">{}<td role=\"cell\"><code>{}</code><td role=\"cell\" class=\"{standing}\">{standing}<td role=\"cell\">{epoch}<td role=\"cell\">{latest}<td role=\"cell\">{verdict}",
            text(&machine.name),
            machine.id,
        )?;
    }
    html.push_str("</tbody></table>");
    Ok(())
}

fn commit(commit: &Commit) -> String {
    format!("commit {} of epoch {}", commit.counter, commit.epoch)
}

fn judged(machine: &Machine) -> Option<Judged> {
    serde_json::from_str(machine.verdict.as_deref()?).ok()
}

fn verdict(html: &mut String, machine: &Machine) -> std::fmt::Result {
    let Some(judged) = judged(machine) else {
        return Ok(());
    };
    write!(
        html,
        "<h2>Last verdict on {}</h2><p><span class=\"{verdict}\">{verdict}</span> by policy {}, {}</p>\
         <table role=\"table\" class=\"verdict\"><thead role=\"rowgroup\"><tr role=\"row\"><th role=\"columnheader\">Check<th role=\"columnheader\">Outcome<th role=\"columnheader\">What was found</thead><tbody role=\"rowgroup\">",
        text(&machine.name),
        text(&judged.policy),
        time(judged.time),
        verdict = text(&judged.verdict),
    )?;
    for row in &judged.checks {
        self::row(html, row)?;
    }
    html.push_str("</tbody></table>");
    Ok(())
}

fn row(html: &mut String, row: &Row) -> std::fmt::Result {
    write!(
        html,
        "<tr role=\"row\"><td role=\"cell\">{}<td role=\"cell\" class=\"{outcome}\">{outcome}<td role=\"cell\">{}",
        text(&row.check),
        text(&row.sentence),
        outcome = text(&row.outcome),
    )?;
    for (what, value) in [("expected", &row.expected), ("found", &row.found)] {
        if !value.is_empty() && (row.outcome != "passed" || what == "found") {
            write!(html, "<br>{what}: <code>{}</code>", text(value))?;
        }
    }
    Ok(())
}

/// Unix seconds as RFC 3339 has them.
pub fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|time| jiff::Timestamp::from_second(time).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_is_markup_but_the_pages_own() {
        assert_eq!(text("<b a=\"&\">"), "&lt;b a=&quot;&amp;&quot;&gt;");
        let events = [Event {
            time: 0,
            machine: None,
            event: "<script>".into(),
            detail: "</code><script>\u{202e}".into(),
        }];
        let html = page(&[], &events);
        assert!(
            !html.contains("<script") && !html.contains('\u{202e}'),
            "{html}"
        );
        assert!(html.contains("No machine is enrolled."));
    }
}
