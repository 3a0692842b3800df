//! An account as one page of HTML: for those who must show a verdict to others.
//!
//! The page is one file that loads nothing and runs nothing; its content security policy says so. Every text is escaped
//! here, whoever wrote it. It is a table for programs that read pages aloud, a list on a narrow screen, and prints.

mod groups;
mod markup;

use crate::{
    account::{Account, EventLog, LoggedEvent},
    check::{Check, Id, Outcome, Verdict},
};
use base64ct::{Base64, Encoding};
use groups::{GROUPS, Group};
use markup::Html;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("style.css");

/// An account as HTML.
pub fn page(account: &Account) -> String {
    let mut html = Html::default();
    head(&mut html, account);
    banner(&mut html, account);
    html.raw("<main>\n");
    about(&mut html, account);
    contents(&mut html, account);
    for group in GROUPS {
        section(&mut html, account, group);
    }
    for (index, log) in account.event_logs.iter().enumerate() {
        event_log(&mut html, account, index, log);
    }
    html.raw("</main>\n");
    footer(&mut html);
    html.raw("</body>\n</html>\n");
    html.into_text()
}

/// The class and the words of a verdict.
fn verdict(account: &Account) -> (&'static str, &'static str) {
    match account.verdict {
        Verdict::Checked => ("passed", "Trusted"),
        Verdict::Accepted => ("accepted", "Trusted, but not all was checked"),
        Verdict::Refused => ("failed", "Not trusted"),
    }
}

fn head(html: &mut Html, account: &Account) {
    let (_, words) = verdict(account);
    // The one style there is, by its hash; nothing else may be loaded or run, and nothing sent.
    let style = Base64::encode_string(&Sha256::digest(STYLE));
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw(&format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'\">\n"
    ));
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
    html.text(&format!("{words}: evidence of a vTPM"));
    html.raw("</title>\n<style>")
        .raw(STYLE)
        .raw("</style>\n</head>\n<body>\n");
}

/// What came of it all, first.
fn banner(html: &mut Html, account: &Account) {
    let (class, words) = verdict(account);
    html.raw(&format!("<header class=\"{class}\">\n<div>\n"));
    html.raw("<p class=\"kind\">Evidence of a vTPM in an Intel TDX trust domain</p>\n<h1>");
    html.text(words).raw("</h1>\n");
    match account.verdict {
        Verdict::Checked => html.paragraph(
            "Every link of the chain holds, and was compared with what the policy names: this evidence was made for this \
             request, in a genuine trust domain, by the TPM of a machine that was started as expected.",
        ),
        Verdict::Accepted => html.paragraph(
            "No link of the chain is broken. But the policy accepts the following unseen: nobody compared it with anything.",
        ),
        Verdict::Refused => html.paragraph(
            "A link of the chain is broken. Do not trust this machine on the strength of this evidence.",
        ),
    };
    if let Some(failure) = account.first_failure.and_then(|id| account.check(id)) {
        html.raw("<div class=\"why\">\n<p>");
        link_to(html, failure.id);
        html.raw(": ").text(&failure.sentence).raw("</p>\n");
        values(html, failure);
        html.raw("</div>\n");
    }
    if account.verdict == Verdict::Accepted {
        html.raw("<div class=\"why\">\n<ul>\n");
        for check in account.accepted.iter().filter_map(|id| account.check(*id)) {
            if let Outcome::Accepted { by } = &check.outcome {
                html.raw("<li><code>").text(by).raw("</code>: ");
                html.text(&check.sentence).raw(" (");
                link_to(html, check.id);
                html.raw(")</li>\n");
            }
        }
        html.raw("</ul>\n</div>\n");
    }
    html.raw("<ul class=\"tally\" aria-label=\"Checks by result\">\n");
    for (name, words) in [
        ("passed", "checked"),
        ("failed", "failed"),
        ("accepted", "accepted unseen"),
        ("skipped", "skipped"),
        ("not-reached", "not reached"),
    ] {
        let checks = account.checks.iter();
        let count = checks.filter(|check| check.outcome.name() == name).count();
        html.raw("<li>")
            .text(&format!("{count} {words}"))
            .raw("</li>\n");
    }
    html.raw("</ul>\n</div>\n</header>\n");
}

/// What was judged.
fn about(html: &mut Html, account: &Account) {
    let about = &account.about;
    html.raw("<section aria-labelledby=\"about\">\n<h2 id=\"about\">What was judged</h2>\n<dl>\n");
    html.entry("Judged as of", |html| html.text(&about.time));
    html.entry("Nonce of the request", |html| html.code(&about.nonce));
    for (name, file) in [("Evidence", &about.evidence), ("Policy", &about.policy)] {
        html.entry(name, |html| {
            html.text(&file.name)
                .raw("<br><span class=\"soft\">SHA-256 </span>")
                .code(&file.sha256)
        });
    }
    html.entry("Trusted root certificate", |html| {
        html.raw("<span class=\"soft\">SHA-256 </span>")
            .code(&about.root_sha256)
    });
    html.entry("Judged by", |html| {
        html.text(&format!("verifier {}", about.verifier))
    });
    html.raw("</dl>\n</section>\n");
}

fn contents(html: &mut Html, account: &Account) {
    html.raw("<nav aria-label=\"Contents\">\n<ol>\n");
    for Group { anchor, title, .. } in GROUPS {
        html.raw(&format!("<li><a href=\"#{anchor}\">"))
            .text(title)
            .raw("</a></li>\n");
    }
    for (index, log) in account.event_logs.iter().enumerate() {
        html.raw(&format!("<li><a href=\"#log-{index}\">"))
            .text(log.name)
            .raw("</a></li>\n");
    }
    html.raw("</ol>\n</nav>\n");
}

/// The checks of one group.
fn section(html: &mut Html, account: &Account, group: &Group) {
    let Group {
        anchor,
        title,
        about,
        checks,
    } = group;
    html.raw(&format!(
        "<section aria-labelledby=\"{anchor}\">\n<h2 id=\"{anchor}\">"
    ));
    html.text(title).raw("</h2>\n").paragraph(about);
    html.table(
        title,
        &[
            ("result", "Result"),
            ("link", "Link of the chain"),
            ("", "What was found"),
        ],
    );
    for check in checks.iter().filter_map(|id| account.check(*id)) {
        html.raw(&format!(
            "<tr role=\"row\" id=\"{}\">\n<td role=\"cell\">",
            check.id
        ));
        badge(html, check.outcome.name());
        html.raw("</td>\n<th role=\"rowheader\" scope=\"row\">")
            .text(check.id.claim());
        html.raw("<code class=\"name\">")
            .text(check.id.name())
            .raw("</code></th>\n<td role=\"cell\">");
        html.paragraph(&sentence(&check.sentence));
        values(html, check);
        html.raw("</td>\n</tr>\n");
    }
    html.raw("</tbody>\n</table>\n</section>\n");
}

/// The values of a check, each with what it is.
fn values(html: &mut Html, check: &Check) {
    let (name, value) = match &check.outcome {
        Outcome::Failed => ("Expected", check.expected.as_str()),
        Outcome::Accepted { by } => ("Accepted by the policy's", by.as_str()),
        Outcome::Skipped { why } => ("Because", why.as_str()),
        Outcome::Passed | Outcome::NotReached { .. } => ("", ""),
    };
    let found = check.found.as_str();
    if value.is_empty() && found.is_empty() {
        return;
    }
    html.raw("<dl>\n");
    for (name, value) in [(name, value), ("Found", found)] {
        match name {
            _ if value.is_empty() => continue,
            "Because" => html.entry(name, |html| html.text(value)),
            _ => html.entry(name, |html| html.code(value)),
        };
    }
    html.raw("</dl>\n");
}

fn event_log(html: &mut Html, account: &Account, index: usize, log: &EventLog) {
    html.raw(&format!(
        "<section aria-labelledby=\"log-{index}\">\n<h2 id=\"log-{index}\">"
    ));
    html.text(log.name)
        .raw("</h2>\n")
        .paragraph(log.explanation);
    if let Some(problem) = &log.problem {
        html.paragraph(&format!("It cannot be read: {problem}."));
        html.raw("</section>\n");
        return;
    }
    html.paragraph(&format!(
        "{} events, {} bytes.",
        log.events.len(),
        log.bytes
    ));
    html.table(
        log.name,
        &[
            ("number", "No."),
            ("register", "Register"),
            ("", "What was measured, and what that means"),
            ("judged", "What the checks concluded"),
        ],
    );
    for (number, event) in log.events.iter().enumerate() {
        logged_event(html, account, number, event);
    }
    html.raw("</tbody>\n</table>\n</section>\n");
}

fn logged_event(html: &mut Html, account: &Account, number: usize, event: &LoggedEvent) {
    html.raw("<tr role=\"row\">\n<td role=\"cell\" class=\"number\" data-label=\"No.\">");
    html.text(&number.to_string());
    html.raw("</td>\n<th role=\"rowheader\" scope=\"row\">")
        .text(&event.register);
    html.raw("</th>\n<td role=\"cell\">");
    html.paragraph(&sentence(&event.what));
    html.raw("<p class=\"soft\">")
        .text(&event.explanation)
        .raw("</p>\n<dl>\n");
    html.entry("Extended by", |html| html.text(event.by));
    html.entry("Type", |html| html.code(&event.event_type));
    html.entry("SHA-384", |html| html.code(&event.digest));
    html.raw("</dl>\n</td>\n<td role=\"cell\" class=\"judged\">");
    badge(html, event.outcome.unwrap_or("not-reached"));
    html.raw("\n<ul>\n");
    for id in &event.checks {
        html.raw("<li>");
        link_to(html, *id);
        if let Some(check) = account.check(*id)
            && check.outcome != Outcome::Passed
        {
            html.text(&format!(": {}", words(check.outcome.name()).1));
        }
        html.raw("</li>\n");
    }
    html.raw("</ul>\n</td>\n</tr>\n");
}

fn badge(html: &mut Html, outcome: &str) {
    let (sign, words) = words(outcome);
    html.raw(&format!("<span class=\"badge {outcome}\">"));
    html.text(&format!("{sign} {words}")).raw("</span>");
}

/// A result: a sign beside the colour, and words.
fn words(outcome: &str) -> (&'static str, &'static str) {
    match outcome {
        "passed" => ("✓", "checked"),
        "failed" => ("✗", "failed"),
        "accepted" => ("!", "unseen"),
        "skipped" => ("–", "skipped"),
        _ => ("…", "not reached"),
    }
}

fn link_to(html: &mut Html, id: Id) {
    html.raw(&format!("<a href=\"#{id}\"><code>{id}</code></a>"));
}

/// A sentence with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return String::new();
    };
    let end = match text.ends_with(['.', '…']) {
        true => "",
        false => ".",
    };
    // Names of things begin as they are written.
    match text.split([' ', ':']).next() {
        Some("td-shim" | "initrd" | "td-debug") => format!("{text}{end}"),
        _ => format!("{}{}{end}", first.to_uppercase(), characters.as_str()),
    }
}

fn footer(html: &mut Html) {
    html.raw("<footer>\n");
    html.paragraph(
        "A trust domain (TD) is a virtual machine that the processor keeps the host out of. Its MRTD is what it was built from, its \
         RTMRs are what it measured since. L1 is the virtual machine monitor inside the TD; the guest runs on it, and has the TPM \
         that L1 keeps (vTPM). The TPM's PCRs are what was measured into it. The journal, in RTMR3, is what became of the TPM.",
    );
    html.paragraph(
        "Each check rests on those before it in the chain. One that rests on a broken link is not reached: it says nothing, for or against.",
    );
    html.raw("</footer>\n");
}

#[cfg(test)]
mod tests;
