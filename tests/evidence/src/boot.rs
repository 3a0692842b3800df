//! A boot, from the firmware image to a guest that has a TPM.

use std::path::Path;

use attestation::digest::{Digests, sha384};
use attestation::journal::{PcrMirror, Processors, Unlock};
use attestation::launch::kernel_digests;
use attestation::pcr::PcrBanks;
use attestation::tpm::{commands, rh, template};
use l1_vmm::launch::boot::CC_LOG_CAPACITY;
use tdx_module::TdParams;
use tdx_module::test_platform::ModelTdcall;
use tpm2_ref_sys::{Ephemeral, Tpm};
use verifier::{Bundle, Collateral, Policy, Report};
use vtpm::attested::{Attested, Config, IdentityTime, LaunchMeasurements, MeasuredLaunch};
use vtpm::log::MeasurementLog;
use vtpm::reference::Reference;
use vtpm::state::WatchedStore;
use vtpm::{Engine, Locality, TrustDomain};

use crate::domain::{self, Domain};
use crate::firmware::{self, FirmwareImage};
use crate::guest::{self, Device};
use crate::kernel::{bz_image, loaded};
use crate::quoting_host::QuotingHost;
use crate::turn::{self, Turn};

/// 2026-01-01, in Unix seconds: when evidence is verified.
pub const NOW: u64 = 1_767_225_600;

/// What is booted, and where.
#[derive(Clone)]
pub struct Boot {
    /// What all that is random follows from; not 0.
    pub seed: u64,
    /// td-shim and L1.
    pub firmware: FirmwareImage,
    /// How the host configures the TD.
    pub td: TdParams,
    /// The TD HOB that the host hands over, if it is not that of the simulator.
    pub td_hob: Option<Vec<u8>>,
    /// What the firmware measures between the TD HOB and its separators, as with secure boot: RTMR, event type, data.
    pub secure_boot_events: Vec<(u8, u32, Vec<u8>)>,
    /// What it measures behind its separators, as if it had started something else than L1.
    pub firmware_events: Vec<(u8, u32, Vec<u8>)>,
    /// The kernel file.
    pub kernel: Vec<u8>,
    /// The kernel's command line.
    pub command_line: String,
    /// The initrd file.
    pub initrd: Option<Vec<u8>>,
    /// What the journal has of PCRs.
    pub mirror: PcrMirror,
    /// The TPM's PCR banks.
    pub banks: PcrBanks,
    /// What the journal says that the engine is.
    pub engine: &'static str,
    /// How many processors L1 says that there are.
    pub processors: Processors,
    /// Where the journal says that the engine's state comes from.
    pub unlock: Option<Unlock>,
    /// The host's quoting service.
    pub host: QuotingHost,
    /// The most that the CC event log may become.
    pub log_capacity: usize,
}

impl Default for Boot {
    fn default() -> Boot {
        Boot {
            seed: 1,
            firmware: FirmwareImage::with_l1(b"the L1 VMM"),
            td: TdParams::default(),
            td_hob: None,
            secure_boot_events: Vec::new(),
            firmware_events: Vec::new(),
            kernel: bz_image(b"a kernel"),
            command_line: "console=ttyS0 ima_policy=tcb".into(),
            initrd: Some(b"an initrd".to_vec()),
            mirror: PcrMirror::Summary,
            banks: PcrBanks::ALL,
            engine: tpm2_ref_sys::ENGINE,
            processors: Processors::new(4, 3).expect("L2 has no more than the TD"),
            unlock: None,
            host: QuotingHost::default(),
            log_capacity: CC_LOG_CAPACITY,
        }
    }
}

impl Boot {
    /// Boots, up to where L1 has measured what it launches and started no TPM.
    pub fn launch(&self) -> Launched {
        let turn = Turn::wait(self.seed);
        let (measured, model) = self.measured();
        Launched {
            measured,
            _turn: turn,
            _model: model,
        }
    }

    fn measured(&self) -> (MeasuredLaunch<Domain>, ModelTdcall) {
        let model = self.firmware.build_td(&self.td);
        let mut td = domain::domain(model.clone(), self.host.clone());
        let firmware_log = firmware::run(
            &mut td,
            &self.td_hob(),
            &self.secure_boot_events,
            &self.firmware_events,
        );
        let log = MeasurementLog::continuing(Some(&firmware_log), self.log_capacity)
            .expect("the firmware's log can be continued");
        let launch = LaunchMeasurements {
            kernel: kernel_digests(&loaded(&self.kernel)),
            command_line: self.command_line.clone().into_bytes(),
            initrd: self.initrd.as_deref().map(Digests::of),
        };
        let measured = MeasuredLaunch::new(td, log, env!("CARGO_PKG_VERSION"), &launch)
            .expect("the launch is measured");
        (measured, model)
    }

    /// Boots, up to where L2 would run.
    pub fn start(&self) -> Machine {
        let turn = Turn::wait(self.seed);
        let (measured, model) = self.measured();
        let (store, commits) = WatchedStore::new(Box::new(Ephemeral));
        let engine = Tpm::open(tpm2_ref_sys::Config {
            entropy: turn::entropy,
            clock: turn::clock,
            store: Box::new(store),
        })
        .expect("the engine opens");
        let config = Config {
            engine: self.engine,
            interface: vtpm::ptp::fifo::NAME,
            processors: self.processors,
            unlock: self.unlock,
            mirror: self.mirror,
            banks: self.banks,
            identity: IdentityTime::FirstNeed,
            commits: Some(commits),
            keeper: None,
        };
        let tpm =
            Attested::start(Reference::new(engine), measured, config).expect("the TPM starts");
        Machine { tpm, turn, model }
    }

    /// A policy that accepts this boot and no other, as its owner writes it from files alone.
    pub fn policy(&self) -> Policy {
        Policy::parse(&self.policy_file(), Path::new(".")).expect("a policy")
    }

    fn td_hob(&self) -> Vec<u8> {
        let simulated = || self.firmware.td_hob();
        self.td_hob.clone().unwrap_or_else(simulated)
    }

    /// The same as a file's content.
    pub fn policy_file(&self) -> String {
        let digest = |bytes: &[u8]| hex::encode(sha384(bytes));
        let initrd = match &self.initrd {
            Some(initrd) => format!("[\"{}\"]", digest(initrd)),
            None => "\"none\"".into(),
        };
        let mode = match &self.unlock {
            None => "modes = [\"ephemeral\"]".into(),
            Some(unlock) => format!(
                "modes = [\"persistent\"]\nmachine = [\"{}\"]\nbroker = {}\nkey = [\"{}\"]\nrollback = [\"{}\"]",
                hex::encode(unlock.machine),
                match unlock.broker {
                    Some(broker) => format!("[\"{}\"]", hex::encode(broker)),
                    None => "\"none\"".into(),
                },
                unlock.key.name(),
                unlock.rollback.name(),
            ),
        };
        let ek = match &self.unlock {
            None => "ephemeral",
            Some(_) => "any",
        };
        format!(
            "[td]\nmrtd = [\"{mrtd}\"]\nattributes = \"{attributes:x}\"\nxfam = \"{xfam:x}\"\n\
             mrconfigid = [\"{mrconfigid}\"]\nmrowner = [\"{mrowner}\"]\nmrownerconfig = [\"{mrownerconfig}\"]\n\
             [firmware]\ntd_hob = [\"{td_hob}\"]\n\
             [launch]\nkernel = [\"{kernel}\"]\ncommand_line = [\"{command_line}\"]\ninitrd = {initrd}\n\
             [vtpm]\nengines = [\"{engine}\"]\ninterfaces = [\"PTP FIFO\"]\n{mode}\nmirror = [\"{mirror}\"]\nek = \"{ek}\"\n\
             processors = {processors}\nl2_processors = {l2_processors}\n\
             allow_hierarchy_changes = false\nmax_resets = 0\n\
             [pcr]\nbeyond_log = [10]\n[pcr.sha256]\n17 = [\"{ones}\"]\n",
            mrtd = hex::encode(self.firmware.mrtd()),
            attributes = self.td.attributes,
            xfam = self.td.xfam,
            mrconfigid = hex::encode(self.td.mrconfigid),
            mrowner = hex::encode(self.td.mrowner),
            mrownerconfig = hex::encode(self.td.mrownerconfig),
            td_hob = digest(&self.td_hob()),
            kernel = hex::encode(kernel_digests(&self.kernel).sha384),
            command_line = self.command_line,
            engine = self.engine,
            mirror = self.mirror.name(),
            processors = self.processors.td(),
            l2_processors = self.processors.l2(),
            ones = "ff".repeat(32),
        )
    }

    /// Boots, and collects evidence at once.
    pub fn evidence(&self) -> Evidence {
        self.evidence_after(|_| {})
    }

    /// Boots, lets the guest act, and collects evidence.
    pub fn evidence_after(&self, act: impl FnOnce(&mut Machine)) -> Evidence {
        let mut machine = self.start();
        act(&mut machine);
        let nonce: Vec<u8> = (1..=32).collect();
        let bundle = machine.collect(&nonce);
        self.judged(bundle, nonce)
    }

    /// A bundle of this boot, with what a relying party judges it by.
    pub fn judged(&self, bundle: Bundle, nonce: Vec<u8>) -> Evidence {
        Evidence {
            bundle,
            nonce,
            policy: self.policy(),
            collateral: committed_collateral(),
            now: NOW,
        }
    }
}

/// A launch that L1 has measured: what it asks for its state's key with.
pub struct Launched {
    measured: MeasuredLaunch<Domain>,
    _turn: Turn,
    _model: ModelTdcall,
}

impl Launched {
    /// A quote of the TD over `report_data`, by the quoting enclave of the committed certificates.
    pub fn quote(&mut self, report_data: &[u8; 64]) -> Vec<u8> {
        let domain = self.measured.trust_domain_mut();
        let report = domain.report(report_data).expect("the TD reports");
        let enclave = quoting::QuotingEnclave::default();
        enclave.quote(&report).expect("the report is quoted")
    }

    /// The CC event log.
    pub fn log(&self) -> Vec<u8> {
        self.measured.log().bytes().to_vec()
    }

    /// An event of RTMR3, as if the vTPM had started.
    pub fn begin_journal(&mut self) {
        let domain = self.measured.trust_domain_mut();
        domain.extend_rtmr(3, &[1; 48]).expect("RTMR3 is extended");
    }
}

/// The trusted root of the tests, and what its owner says of platforms.
pub fn committed_collateral() -> Collateral {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sim/quoting/pki");
    Collateral::read(folder.as_ref()).expect("collateral is committed")
}

/// A machine whose guest has the TPM.
pub struct Machine {
    /// The vTPM.
    pub tpm: Attested<Reference, Domain>,
    turn: Turn,
    model: ModelTdcall,
}

impl Machine {
    /// The private key of L1's CA, for an L1 that gives it away: a scalar of P-384, once there is a CA.
    pub fn authority_key(&self) -> [u8; 48] {
        self.turn.scalar()
    }

    /// A reset of the machine: _TPM_Init, and what L1 does then.
    pub fn reset(&mut self) {
        self.tpm.reset().expect("the TPM is reset");
    }

    /// The area with L2's copy of the CC event log.
    pub fn cc_log_area(&self) -> Vec<u8> {
        domain::cc_log_area(&self.model)
    }

    /// RTMR0 to RTMR3, as the TDX module has them.
    pub fn rtmrs(&self) -> [[u8; 48]; 4] {
        self.model.with(|module, _| module.td_info().rtmr)
    }

    /// The guest makes its RSA EK, and keeps it where the TCG's provisioning guidance says.
    pub fn persist_ek(&mut self) {
        let template = template::ek_rsa_2048();
        let ek = self.handle(&commands::create_primary(rh::ENDORSEMENT, &template));
        self.ok(&commands::evict_control(ek, guest::EK));
    }

    /// Evidence, quoted with L1's AK.
    pub fn collect(&mut self, nonce: &[u8]) -> Bundle {
        self.collect_with(nonce, None)
    }

    /// Evidence, quoted with a key of the guest's.
    pub fn collect_with(&mut self, nonce: &[u8], own_ak: Option<u32>) -> Bundle {
        let log = self.tpm.tcg_log().to_vec();
        guest::collect(self, &log, nonce, own_ak)
    }
}

impl Device for Machine {
    fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        let mut response = [0; tpm2_ref_sys::MAX_RESPONSE];
        let length = self
            .tpm
            .execute(Locality::Zero, command, &mut response)
            .expect("the engine answers");
        response[..length].to_vec()
    }
}

/// A bundle, and all that a relying party judges it by.
#[derive(Clone)]
pub struct Evidence {
    /// The bundle.
    pub bundle: Bundle,
    /// The relying party's nonce.
    pub nonce: Vec<u8>,
    /// What it accepts.
    pub policy: Policy,
    /// Whom it trusts.
    pub collateral: Collateral,
    /// When it verifies, in Unix seconds.
    pub now: u64,
}

impl Evidence {
    /// What the verifier says.
    pub fn verify(&self) -> Report {
        verifier::verify(
            &self.bundle,
            &self.policy,
            &self.collateral,
            self.now,
            &self.nonce,
        )
    }

    /// What the verifier says of it as a file.
    pub fn verify_file(&self, json: &[u8]) -> Report {
        verifier::verify_json(json, &self.policy, &self.collateral, self.now, &self.nonce)
    }
}
