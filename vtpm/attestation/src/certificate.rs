//! Extensions of the certificate of L1's CA (docs/measurement.md §7), by object identifier in dotted form.

/// The TD quote, or TDREPORT, over the certified key: an OCTET STRING.
pub const TD_QUOTE: &str = "2.16.840.1.113741.1.5.5.4.2";
/// The CC event log that goes with it: an OCTET STRING.
pub const CC_EVENT_LOG: &str = "2.16.840.1.113741.1.5.5.4.3";
