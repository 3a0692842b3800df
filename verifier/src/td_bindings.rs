//! What newer quotes and TDREPORTs say of a TD beside [`TdQuoteBody`](tdx_defs::quote::TdQuoteBody): who else is bound to
//! it, and for which of its VMs they were made.

use dcap_qvl::quote::Report as QuoteBody;
use tdx_defs::report::{PartitionInfo, ReportType, Sha384, TdInfo, TdReport};

const NONE: Sha384 = [0; 48];

/// What a quote or a TDREPORT says; `None` where its version does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// MRSERVICETD, or SERVTD_HASH: the service TDs that are bound, all zeros without any.
    pub service_td: Option<Sha384>,
    /// The service TDs that are bound now, where that is told apart from those at the TD's creation.
    pub current_service_td: Option<Sha384>,
    /// The devices that are bound, all zeros without any.
    pub devices: Option<Sha384>,
    /// VMID: 0 for the L1 VMM.
    pub vm: Option<u8>,
    /// TDID.
    pub td_id: Option<[u8; 32]>,
}

impl Bindings {
    /// What the body of a quote says.
    pub fn of_quote(body: &QuoteBody) -> Bindings {
        let service_td = body.as_td15().map(|body| body.mr_service_td);
        match body.as_td15_ex() {
            None => Bindings {
                service_td,
                ..Bindings::default()
            },
            Some(body) => Bindings {
                service_td,
                current_service_td: Some(body.cur_service_td_hash),
                devices: Some(body.dev_info),
                vm: Some(body.vmid),
                td_id: Some(body.td_id),
            },
        }
    }

    /// What a TDREPORT says.
    ///
    /// # Errors
    /// Its form is not one of those that the TDX module makes; the sentence says why.
    pub fn of_report(report: &TdReport) -> Result<Bindings, String> {
        let td = &report.td_info;
        match report.report_mac.report_type.version {
            0 if td.servtd_hash != NONE => {
                Err("a TDREPORT of version 0 has no SERVTD_HASH, and this one has".into())
            }
            0 | 1 if td.reserved != [0; 64] => {
                Err("the reserved bytes of TDINFO are not zero".into())
            }
            0 | 1 => Ok(Bindings {
                service_td: Some(td.servtd_hash),
                ..Bindings::default()
            }),
            ReportType::WITH_PARTITION => of_partitioned(td),
            version => Err(format!(
                "the TDREPORT is of version {version}; this verifier knows 0, 1 and 3"
            )),
        }
    }

    /// The first member that both tell and that differs, with both values.
    pub fn difference(&self, other: &Bindings) -> Option<(&'static str, String, String)> {
        let differ = |one: Option<&[u8]>, other: Option<&[u8]>| {
            let (one, other) = one.zip(other).filter(|(one, other)| one != other)?;
            Some((hex::encode(one), hex::encode(other)))
        };
        let vm = |bindings: &Bindings| bindings.vm.map(|vm| [vm]);
        let (own_vm, other_vm) = (vm(self), vm(other));
        let service_td = differ(
            self.service_td.as_ref().map(|hash| &hash[..]),
            other.service_td.as_ref().map(|hash| &hash[..]),
        );
        let vm = differ(
            own_vm.as_ref().map(|vm| &vm[..]),
            other_vm.as_ref().map(|vm| &vm[..]),
        );
        let td_id = differ(
            self.td_id.as_ref().map(|id| &id[..]),
            other.td_id.as_ref().map(|id| &id[..]),
        );
        [("SERVTD_HASH", service_td), ("VMID", vm), ("TDID", td_id)]
            .into_iter()
            .find_map(|(name, values)| values.map(|(one, other)| (name, one, other)))
    }

    /// What is told by either.
    #[must_use]
    pub fn or(self, other: Bindings) -> Bindings {
        Bindings {
            service_td: self.service_td.or(other.service_td),
            current_service_td: self.current_service_td.or(other.current_service_td),
            devices: self.devices.or(other.devices),
            vm: self.vm.or(other.vm),
            td_id: self.td_id.or(other.td_id),
        }
    }
}

/// TDINFO of a TDREPORT of version 3.
fn of_partitioned(td: &TdInfo) -> Result<Bindings, String> {
    let info = td.partition();
    let valid = u32::from_le_bytes(info.valid);
    let known =
        PartitionInfo::SERVTD_HASH_VALID | PartitionInfo::TD_ID_VALID | PartitionInfo::VMID_VALID;
    if valid & !known != 0 {
        return Err(format!(
            "TDINFO.VALID is {valid:#x}: it names fields that this verifier does not know"
        ));
    }
    if info.reserved_32 != [0; 24] || info.reserved_57 != [0; 3] {
        return Err("the reserved bytes of TDINFO are not zero".into());
    }
    let has = |bit| valid & bit != 0;
    Ok(Bindings {
        service_td: has(PartitionInfo::SERVTD_HASH_VALID).then_some(td.servtd_hash),
        vm: has(PartitionInfo::VMID_VALID).then_some(info.vmid),
        td_id: has(PartitionInfo::TD_ID_VALID).then_some(info.td_id),
        ..Bindings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn report(version: u8, edit: impl FnOnce(&mut TdInfo)) -> Result<Bindings, String> {
        let mut report = TdReport::new_zeroed();
        report.report_mac.report_type.version = version;
        edit(&mut report.td_info);
        Bindings::of_report(&report)
    }

    #[test]
    fn each_version_of_a_tdreport_tells_what_it_has() {
        let none = Bindings {
            service_td: Some(NONE),
            ..Bindings::default()
        };
        assert_eq!(report(0, |_| {}), Ok(none));
        assert!(report(0, |td| td.servtd_hash[0] = 1).is_err());
        let bound = report(1, |td| td.servtd_hash[0] = 1).unwrap();
        assert_ne!(bound.service_td, Some(NONE));
        assert!(report(1, |td| td.reserved[63] = 1).is_err());
        assert!(report(2, |_| {}).is_err());
        assert!(report(4, |_| {}).is_err());
    }

    #[test]
    fn a_tdreport_with_partition_information_names_what_is_valid() {
        assert_eq!(report(3, |_| {}), Ok(Bindings::default()));
        // VALID: VMID and TDID.
        let told = report(3, |td| {
            td.reserved[0] = 9;
            td.reserved[56] = 2;
            td.reserved[61] = 3;
        });
        let told = told.unwrap();
        assert_eq!((told.vm, told.service_td), (Some(2), None));
        assert_eq!(told.td_id.map(|id| id[0]), Some(9));
        for (place, value) in [(32, 1), (57, 1), (60, 2), (61, 4), (63, 1)] {
            let refused = report(3, |td| td.reserved[place] = value);
            assert!(refused.is_err(), "{place}");
        }
    }
}
