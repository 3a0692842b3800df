//! Which TDX module this is, and whether it has what L1 needs.
//!
//! A module that lacks a feature answers the call that would use it with an error that says nothing of the cause, or takes
//! it for something else: so L1 asks first, and says what to do.

use core::fmt;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tdcall::leaf::VpInfo;
use tdcall::{MetadataError, RawTdcall, Td};
use tdx_defs::FieldId;
use tdx_defs::field::TdxFeatures0;
use tdx_defs::report::TdReport;

/// What to do about a module that is too old.
const REMEDY: &str = "load a TDX module of release 1.5.01 or later";

/// A feature that L1 uses.
struct Feature {
    name: &'static str,
    bit: TdxFeatures0,
    /// What L1 does with it.
    use_of_it: &'static str,
    /// L1 does not go on without it.
    needed: bool,
}

/// What of TDX_FEATURES0 L1 uses (TDX Module ABI, "TDX_FEATURES0").
const FEATURES: [Feature; 4] = [
    Feature {
        name: "TD_PARTITIONING",
        bit: TdxFeatures0::new().with_td_partitioning(true),
        use_of_it: "runs L2",
        needed: true,
    },
    Feature {
        name: "TDG_VP_RDWR",
        bit: TdxFeatures0::new().with_tdg_vp_rdwr(true),
        use_of_it: "sets L2's VMCS",
        needed: true,
    },
    Feature {
        name: "PENDING_EPT_VIOLATION_V2",
        bit: TdxFeatures0::new().with_pending_ept_violation_v2(true),
        use_of_it: "tells a page that the host exchanged from one that is not there",
        needed: false,
    },
    Feature {
        name: "SEALING",
        bit: TdxFeatures0::new().with_sealing(true),
        use_of_it: "has a part in the key of a state that is kept",
        needed: false,
    },
];

/// The attributes of L2's pages that L1 sets or clears: read, write, both kinds of execute, and VALID.
const PAGE_ATTRIBUTES: u64 = 0x800F;

/// What the module says of itself (TDG.SYS.RD).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxModule {
    /// MAJOR_VERSION, MINOR_VERSION, UPDATE_VERSION and INTERNAL_VERSION, as far as it tells them to a guest.
    pub version: [Option<u64>; 4],
    /// BUILD_NUM, if it tells.
    pub build: Option<u64>,
    /// BUILD_DATE, if it tells: eight decimal digits.
    pub date: Option<u64>,
    /// TDX_FEATURES0.
    pub features: TdxFeatures0,
}

/// Why L1 does not run on this module, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// It is older than TDG.SYS.RD, or than its features.
    #[error(
        "this TDX module does not tell its features (TDG.SYS.RD), so it cannot run L2: {REMEDY}"
    )]
    Silent,
    /// A feature that L1 needs is not there.
    #[error("{module} lacks {names}, by which L1 {use_of_it}: {REMEDY}")]
    Lacks {
        /// The module's name.
        module: String,
        /// The features.
        names: String,
        /// What they are for.
        use_of_it: String,
    },
    /// It does not know attributes of L2's pages that L1 sets.
    #[error(
        "{module} knows attributes {known:#x} of L2's pages, and L1 sets {PAGE_ATTRIBUTES:#x}: {REMEDY}"
    )]
    PageAttributes {
        /// The module's name.
        module: String,
        /// GUEST_L2_GPA_ATTR_MASK.
        known: u64,
    },
    /// A field could not be read for a reason that no release has.
    #[error("TDG.SYS.RD: {0}")]
    Field(#[from] MetadataError),
}

impl TdxModule {
    /// Asks the module.
    ///
    /// # Errors
    /// It lacks what L1 needs.
    pub fn read<R: RawTdcall>(td: &Td<R>, info: &VpInfo) -> Result<Self, ModuleError> {
        if !info.sys_rd {
            return Err(ModuleError::Silent);
        }
        let features = told(td, FieldId::TDX_FEATURES0)?.ok_or(ModuleError::Silent)?;
        let module = Self {
            version: [
                told(td, FieldId::MAJOR_VERSION)?,
                told(td, FieldId::MINOR_VERSION)?,
                told(td, FieldId::UPDATE_VERSION)?,
                told(td, FieldId::INTERNAL_VERSION)?,
            ],
            build: told(td, FieldId::BUILD_NUM)?,
            date: told(td, FieldId::BUILD_DATE)?,
            features: TdxFeatures0::from_bits(features),
        };
        let lacking: Vec<&Feature> = module.lacking().filter(|feature| feature.needed).collect();
        if !lacking.is_empty() {
            return Err(ModuleError::Lacks {
                module: module.to_string(),
                names: list(lacking.iter().map(|feature| feature.name)),
                use_of_it: list(lacking.iter().map(|feature| feature.use_of_it)),
            });
        }
        match told(td, FieldId::GUEST_L2_GPA_ATTR_MASK)? {
            Some(known) if known & PAGE_ATTRIBUTES != PAGE_ATTRIBUTES => {
                Err(ModuleError::PageAttributes {
                    module: module.to_string(),
                    known,
                })
            }
            _ => Ok(module),
        }
    }

    fn lacking(&self) -> impl Iterator<Item = &'static Feature> {
        FEATURES.iter().filter(|feature| !self.has(feature))
    }

    fn has(&self, feature: &Feature) -> bool {
        let bit = feature.bit.into_bits();
        self.features.into_bits() & bit == bit
    }

    /// The features that L1 uses and the module has, each with what it is for.
    pub fn used(&self) -> String {
        let used = FEATURES.iter().filter(|feature| self.has(feature));
        list(used.map(Feature::to_string))
    }

    /// The features that L1 would use and the module lacks, in the same way; empty if there are none.
    pub fn lacks(&self) -> String {
        list(self.lacking().map(Feature::to_string))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.use_of_it)
    }
}

/// The name of a release as Intel writes it, as far as the module tells: `TDX module 1.5.05.46.698 of 20240725`.
impl fmt::Display for TdxModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [Some(major), Some(minor), update, internal] = self.version else {
            return f.write_str("TDX module of a version that it does not tell");
        };
        write!(f, "TDX module {major}.{minor}")?;
        let Some(update) = update else {
            return f.write_str(" (update and build are not told to a TD)");
        };
        write!(f, ".{update:02}")?;
        for part in [internal, self.build].into_iter().flatten() {
            write!(f, ".{part:02}")?;
        }
        match self.date {
            Some(date) => write!(f, " of {date}"),
            None => Ok(()),
        }
    }
}

/// How a TDREPORT names the module: what a quote shows of it, too. MRSEAM is of one build, also where
/// [`TdxModule`] is not told which.
pub struct Reported<'a>(pub &'a TdReport);

impl fmt::Display for Reported<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        f.write_str("TEE_TCB_SVN ")?;
        hex(f, &self.0.tee_tcb_info.tee_tcb_svn)?;
        f.write_str(", MRSEAM ")?;
        hex(f, &self.0.tee_tcb_info.mrseam)
    }
}

/// A field that this release may not have, or may keep for the host.
fn told<R: RawTdcall>(td: &Td<R>, field: FieldId) -> Result<Option<u64>, MetadataError> {
    match td.sys_rd(field) {
        Ok(value) => Ok(Some(value)),
        Err(MetadataError::UnknownField | MetadataError::NotReadable) => Ok(None),
        Err(error) => Err(error),
    }
}

fn list<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::collections::BTreeMap;
    use tdx_defs::Registers;
    use tdx_module::TdParams;
    use tdx_module::test_platform::ModelTdcall;
    use zerocopy::FromZeros;

    const ID_INCORRECT: u64 = 0xC000_0C00_0000_0000;
    const NOT_READABLE: u64 = 0xC000_0C02_0000_0000;
    const OPERAND_INVALID_RAX: u64 = 0xC000_0100_0000_0000;

    /// The simulated module, of which some fields are another release's: a value, or a status.
    struct OtherRelease {
        model: ModelTdcall,
        fields: BTreeMap<u64, Result<u64, u64>>,
    }

    impl RawTdcall for OtherRelease {
        fn tdcall(&self, registers: &mut Registers) {
            let other = match registers.rax {
                tdx_defs::tdg::SYS_RD => self.fields.get(&registers.rdx),
                _ => None,
            };
            match other {
                None => self.model.tdcall(registers),
                Some(answer) => {
                    registers.rdx = u64::MAX;
                    (registers.rax, registers.r8) = match *answer {
                        Ok(value) => (0, value),
                        Err(status) => (status, 0),
                    };
                }
            }
        }
    }

    fn read(fields: &[(FieldId, Result<u64, u64>)]) -> Result<TdxModule, ModuleError> {
        let td = Td::new(OtherRelease {
            model: ModelTdcall::new(&TdParams::default(), 0),
            fields: fields.iter().map(|(id, answer)| (id.0, *answer)).collect(),
        });
        let info = td.vp_info().unwrap();
        TdxModule::read(&td, &info)
    }

    #[test]
    fn release_1_5_01_is_named_and_lacks_sealing_alone() {
        let module = read(&[]).unwrap();
        assert_eq!(
            module.to_string(),
            "TDX module 1.5 (update and build are not told to a TD)"
        );
        assert_eq!(
            module.used(),
            "TD_PARTITIONING (runs L2), TDG_VP_RDWR (sets L2's VMCS), \
             PENDING_EPT_VIOLATION_V2 (tells a page that the host exchanged from one that is not there)"
        );
        assert_eq!(
            module.lacks(),
            "SEALING (has a part in the key of a state that is kept)"
        );
    }

    /// The four fields are there, and not a TD's to read: so the published module answers.
    #[test]
    fn the_simulated_module_keeps_update_and_build_for_the_host() {
        let td = Td::new(ModelTdcall::new(&TdParams::default(), 0));
        for field in [
            FieldId::UPDATE_VERSION,
            FieldId::INTERNAL_VERSION,
            FieldId::BUILD_NUM,
            FieldId::BUILD_DATE,
        ] {
            assert_eq!(td.sys_rd(field), Err(MetadataError::NotReadable));
        }
    }

    #[test]
    fn a_release_that_tells_more_is_named_as_intel_names_it() {
        let told = [
            (FieldId::UPDATE_VERSION, Ok(5)),
            (FieldId::INTERNAL_VERSION, Ok(46)),
            (FieldId::BUILD_NUM, Ok(698)),
            (FieldId::BUILD_DATE, Ok(20_240_725)),
        ];
        let name = |fields: &[_]| read(fields).unwrap().to_string();
        assert_eq!(name(&told), "TDX module 1.5.05.46.698 of 20240725");
        assert_eq!(name(&told[..2]), "TDX module 1.5.05.46");
        assert_eq!(name(&told[..1]), "TDX module 1.5.05");
        let silent = (FieldId::MINOR_VERSION, Err(NOT_READABLE));
        assert_eq!(
            name(&[silent]),
            "TDX module of a version that it does not tell"
        );
    }

    #[test]
    fn a_module_without_partitioning_ends_l1_with_what_to_do() {
        let features = |bits: TdxFeatures0| read(&[(FieldId::TDX_FEATURES0, Ok(bits.into_bits()))]);
        let all = read(&[]).unwrap().features;
        let text = |bits| features(bits).unwrap_err().to_string();
        assert_eq!(
            text(all.with_td_partitioning(false)),
            "TDX module 1.5 (update and build are not told to a TD) lacks TD_PARTITIONING, by which L1 runs L2: \
             load a TDX module of release 1.5.01 or later"
        );
        assert!(text(all.with_tdg_vp_rdwr(false)).contains("lacks TDG_VP_RDWR, by which L1 sets"));
        let both = text(TdxFeatures0::new());
        assert!(both.contains("lacks TD_PARTITIONING, TDG_VP_RDWR, by which L1 runs L2, sets"));
        // A line of the log's end has no more.
        assert!(both.len() < 240, "{both}");
        let least = TdxFeatures0::new()
            .with_td_partitioning(true)
            .with_tdg_vp_rdwr(true);
        assert!(features(least).is_ok());
    }

    #[test]
    fn a_module_that_does_not_know_its_features_is_too_old() {
        for status in [ID_INCORRECT, NOT_READABLE] {
            let silent = read(&[(FieldId::TDX_FEATURES0, Err(status))]);
            assert_eq!(silent, Err(ModuleError::Silent));
        }
        let td = Td::new(ModelTdcall::new(&TdParams::default(), 0));
        let info = VpInfo {
            sys_rd: false,
            ..td.vp_info().unwrap()
        };
        let silent = TdxModule::read(&td, &info).unwrap_err();
        assert_eq!(
            silent.to_string(),
            "this TDX module does not tell its features (TDG.SYS.RD), so it cannot run L2: \
             load a TDX module of release 1.5.01 or later"
        );
        // It says that it can, and has no such leaf.
        let liar = read(&[(FieldId::TDX_FEATURES0, Err(OPERAND_INVALID_RAX))]);
        assert!(matches!(liar, Err(ModuleError::Field(_))), "{liar:?}");
    }

    #[test]
    fn a_report_names_the_build() {
        let mut report = TdReport::new_zeroed();
        report.tee_tcb_info.tee_tcb_svn[1] = 5;
        report.tee_tcb_info.mrseam[47] = 0xAB;
        let named = Reported(&report).to_string();
        let mrseam = "0".repeat(94) + "ab";
        let svn = "0005".to_owned() + &"0".repeat(28);
        assert_eq!(named, alloc::format!("TEE_TCB_SVN {svn}, MRSEAM {mrseam}"));
    }

    #[test]
    fn page_attributes_that_l1_sets_are_known() {
        let mask = |answer| read(&[(FieldId::GUEST_L2_GPA_ATTR_MASK, answer)]);
        assert!(mask(Ok(0x800F)).is_ok());
        assert!(mask(Err(ID_INCORRECT)).is_ok());
        for known in [0x8007, 0x7F, 0] {
            let error = mask(Ok(known)).unwrap_err();
            assert!(matches!(error, ModuleError::PageAttributes { .. }));
            assert!(error.to_string().len() < 240, "{error}");
        }
    }
}
