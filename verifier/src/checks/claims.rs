//! The bundle, the nonce, and what REPORTDATA stands for.

use super::{broken, same};
use crate::{
    check::{Checked, Finding},
    evidence::Evidence,
    limits::Oversize,
    td_bindings::Bindings,
    td_body::differences,
};
use attestation::{
    bundle::{FORMAT, VERSION},
    claims::report_data as digest_of,
    window::USER_DATA_SIZE,
};

pub(super) fn bundle_format(evidence: &Evidence<'_>) -> Checked {
    let bundle = evidence.bundle;
    if (bundle.format.as_str(), bundle.version) != (FORMAT, VERSION) {
        return Err(Finding::failed(
            "this is another kind of evidence, or another version of it",
            format!("{FORMAT} {VERSION}"),
            format!("{} {}", bundle.format, bundle.version),
        ));
    }
    if let Some(Oversize {
        member,
        size,
        limit,
    }) = evidence.oversize
    {
        return Err(Finding::failed(
            format!("the bundle's {member} is larger than this verifier reads"),
            format!("at most {limit} bytes"),
            format!("{size} bytes"),
        ));
    }
    let nonce = evidence.nonce;
    if !(1..=USER_DATA_SIZE).contains(&nonce.len()) {
        return Err(Finding::failed(
            "the nonce is not one that a bundle can have",
            "1 to 64 bytes",
            format!("{} bytes", nonce.len()),
        ));
    }
    evidence
        .report
        .as_ref()
        .map_err(broken("the report (NV 0x01400001) is not one"))?;
    evidence
        .claims
        .as_ref()
        .map_err(broken("the runtime claims in the report are not claims"))?;
    evidence
        .banks
        .as_ref()
        .map_err(broken("the bundle's PCR values are not banks of 24"))?;
    Ok(Finding::passed(
        "the bundle and the report in it are well-formed",
        "version 1",
    ))
}

pub(super) fn nonce(evidence: &Evidence<'_>) -> Checked {
    let claims = evidence
        .claims
        .as_ref()
        .map_err(broken("the claims do not parse"))?;
    let mut expected = [0; USER_DATA_SIZE];
    for (to, from) in expected.iter_mut().zip(evidence.nonce) {
        *to = *from;
    }
    same(
        "the report was not made for this nonce: the evidence is of another request, or old",
        &expected[..],
        &claims.user_data[..],
    )?;
    let said = &evidence.bundle.nonce;
    if !said.eq_ignore_ascii_case(&hex::encode(evidence.nonce)) {
        return Err(Finding::failed(
            "the bundle says that it was made for another nonce",
            hex::encode(evidence.nonce),
            said,
        ));
    }
    Ok(Finding::passed(
        "the report was made for this nonce",
        hex::encode(evidence.nonce),
    ))
}

pub(super) fn report_data(evidence: &Evidence<'_>) -> Checked {
    let report = evidence
        .report
        .as_ref()
        .map_err(broken("the report does not parse"))?;
    let td = evidence
        .td()
        .map_err(broken("there is no TD to compare the claims with"))?;
    same(
        "the claims are not the ones that this TD reported: they were changed, or the quote is of another TD or of another time",
        &digest_of(report.claims)[..],
        &td.report_data[..],
    )?;
    Ok(Finding::passed(
        "REPORTDATA is the digest of the claims",
        hex::encode(td.report_data.get(..32).unwrap_or_default()),
    ))
}

pub(super) fn report_matches_quote(evidence: &Evidence<'_>) -> Checked {
    let reported = evidence
        .reported_td()
        .map_err(broken("the TDREPORT contradicts itself"))?;
    let bindings = evidence
        .td_report()
        .and_then(|report| Bindings::of_report(&report))
        .map_err(broken(
            "the TDREPORT is not of a form that this verifier knows",
        ))?;
    if evidence.quote.is_none() {
        return Ok(Finding::passed(
            "the TDREPORT's hashes are those of its parts (there is no quote to compare it with)",
            "",
        ));
    }
    let quoted = evidence.td().map_err(broken("there is no quote"))?;
    let quoted_bindings = match &evidence.quote {
        Some(Ok(quote)) => *quote.bindings(),
        _ => Bindings::default(),
    };
    let difference = differences(&quoted, &reported)
        .into_iter()
        .next()
        .or_else(|| quoted_bindings.difference(&bindings));
    if let Some((field, expected, found)) = difference {
        return Err(Finding::failed(
            format!(
                "the TDREPORT beside the claims is not the one that was quoted: {field} differs"
            ),
            expected,
            found,
        ));
    }
    Ok(Finding::passed(
        "the TDREPORT beside the claims is the one that was quoted",
        "15 fields, and those that its version has beside them",
    ))
}
