//! Machines, brokers that a test scripts, and disks that a host has.

use super::*;

pub(super) const MACHINE: [u8; 32] = [7; 32];
pub(super) const NV_SIZE: u32 = 1000;
pub(super) const MEMORY: u64 = 4 << 20;
pub(super) const SHARED: u64 = 0x20_0000;
pub(super) const SHARED_BIT: u64 = 1 << 47;
pub(super) const LOG: &[u8] = b"the CC event log";

/// A clock that goes on by a microsecond whenever it is looked at.
pub(super) static CLOCK: AtomicU64 = AtomicU64::new(0);

pub(super) type ModelTd = LaunchedTd<ModelTdcall, ModelPage, Part<ModelShared>, ModelRam>;

/// A disk in the host's memory.
#[derive(Clone, Debug)]
pub(super) struct Disk(pub(super) Rc<RefCell<Vec<u8>>>);

impl Disk {
    pub(super) fn blank() -> Self {
        Self(Rc::new(RefCell::new(vec![
            0;
            layout::SECTORS_MIN as usize
                * 512
        ])))
    }

    pub(super) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        layout::SECTORS_MIN
    }
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let at = sector as usize * 512;
        into.copy_from_slice(&self.0.borrow()[at..at + into.len()]);
        Ok(())
    }
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        let at = sector as usize * 512;
        self.0.borrow_mut()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// What the label on a new disk says of a key.
pub(in crate::launch::unlock) fn key_id(key: StateKey) -> [u8; 16] {
    let disk = Disk::blank();
    let machine = MachineId([3; 32]);
    let opened = state_store::open(
        disk.clone(),
        NoLedger,
        &key.into(),
        machine,
        NV_SIZE,
        state_store::Rollback::None,
    );
    let Ok(Opened::Fresh(mut store)) = opened else {
        panic!("a blank disk");
    };
    let _ = store.commit(&state(1), Nonce([1; 12]));
    disk.0.borrow()[48..64].try_into().unwrap()
}

pub(super) fn state(byte: u8) -> State {
    State {
        engine: vec![byte; 100],
        ek_templates: Vec::new(),
        journal_epoch: 1,
        nv_size: NV_SIZE,
        policy: "p".to_string(),
        others: Vec::new(),
    }
}

/// How a host answers GetQuote.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Quotes {
    /// With the REPORTDATA.
    AtOnce,
    /// Never.
    Never,
    /// That it has no service.
    None,
}

/// One start of a machine.
pub(super) struct Start {
    pub(super) platform: Platform,
    pub(super) attributes: u64,
    pub(super) configured: PersistentState,
    /// MRCONFIGID, if it is not the document's.
    pub(super) mrconfigid: Option<[u8; 48]>,
    pub(super) broker: Option<Rc<RefCell<Scripted>>>,
    pub(super) disk: Option<Disk>,
    pub(super) quotes: Quotes,
    /// What goes over the channel.
    pub(super) wire: Rc<RefCell<Vec<u8>>>,
    pub(super) bounds: Bounds,
    pub(super) nv_size: u32,
    /// Whether L1's image is the updated one, with another MRTD.
    pub(super) updated: bool,
    /// The channel's clock at the end of the last start.
    pub(super) ended: RefCell<Rc<Cell<u64>>>,
}

impl Start {
    pub(super) fn new(key: &str, rollback: Rollback) -> Self {
        let broker = Scripted::new(broker_protocol::MachineId(MACHINE));
        let named = Broker {
            key: broker.identity().to_sec1(),
            resource: Broker::default_resource(&Machine(MACHINE)),
        };
        let configured = PersistentState {
            machine: Machine(MACHINE),
            otherwise: Otherwise::Refuse,
            key: match key {
                "broker" => KeySource::Broker(named),
                "hardware" => KeySource::Hardware,
                _ => KeySource::Both(named),
            },
            rollback,
        };
        Self {
            platform: Platform::with_sealing(),
            attributes: TdParams::default().attributes,
            configured,
            mrconfigid: None,
            broker: Some(Rc::new(RefCell::new(broker))),
            disk: Some(Disk::blank()),
            quotes: Quotes::AtOnce,
            wire: Rc::default(),
            bounds: Bounds::default(),
            nv_size: NV_SIZE,
            updated: false,
            ended: RefCell::default(),
        }
    }

    pub(super) fn lying(lie: Lie) -> Self {
        let start = Self::new("both", Rollback::Ledger);
        start.broker.as_ref().unwrap().borrow_mut().lie = lie;
        start
    }

    pub(super) fn td(&self, digest: [u8; 48]) -> ModelTd {
        let params = TdParams {
            attributes: self.attributes,
            mrconfigid: self.mrconfigid.unwrap_or(digest),
            ..TdParams::default()
        };
        let updated = self.updated;
        let platform = self.platform.clone();
        let model = ModelTdcall::built_on(platform, &params, MEMORY, |module, platform| {
            let mut pages = ModelTdcall::L1_PAGES.step_by(0x1000);
            pages.try_for_each(|page| module.tdh_mem_page_add(platform, page, page, page))?;
            match updated {
                true => module.tdh_mr_extend(platform, ModelTdcall::L1_PAGES.start),
                false => Ok(()),
            }
        });
        let shared = ModelShared::new(&model, SHARED..SHARED + 0x2000);
        let quotes = self.quotes;
        model.set_host(move |_, platform, exit| {
            let buffer = SHARED_MEMORY + (exit.registers.r12 & !SHARED_BIT);
            if quotes == Quotes::AtOnce {
                let mut report_data = [0; 64];
                platform.read(buffer + 24 + 128, &mut report_data);
                platform.write(buffer + 24, &report_data);
                platform.write(buffer + 20, &64_u32.to_le_bytes());
                platform.write(buffer + 8, &0_u64.to_le_bytes());
            }
            let mut input = VpEnterInput::default();
            input.registers.r10 = match quotes {
                Quotes::None => 0x8000_0000_0000_0000,
                _ => 0,
            };
            input
        });
        LaunchedTd::new(Parts {
            td: Td::new(model.clone()),
            operands: ModelPage::new(&model, 0x1000),
            quotes: QuoteBuffer::new(Part::new(shared, 0..0x2000).unwrap(), SHARED_BIT).unwrap(),
            memory: ModelRam {
                model,
                l1_start: MEMORY,
                end: MEMORY,
            },
            log_copy: GpaRange::with_length(0x10_0000, 0x1000).unwrap(),
            random: |into| {
                // Never twice the same, nor what a test calls another key.
                for part in into.chunks_mut(8) {
                    let number = CLOCK.fetch_add(1, Ordering::Relaxed);
                    let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                    for (to, from) in part.iter_mut().zip(word) {
                        *to = from;
                    }
                }
                Ok(())
            },
            clock: || CLOCK.fetch_add(1000, Ordering::Relaxed),
        })
    }

    pub(super) fn unlock(&self) -> Unlocked<Script, Disk> {
        let configuration = Configured {
            state: Some(self.configured.clone()),
            banks: None,
            mirror: None,
        };
        let document = configuration.to_document();
        let init_data = init_data::parse(document.as_bytes()).unwrap();
        let mut td = self.td(init_data.digest);
        let channel = self.broker.clone().map(|broker| {
            let wire = Rc::clone(&self.wire);
            let script = Script::new(move |sent| {
                wire.borrow_mut().extend_from_slice(sent);
                let answer = broker.borrow_mut().serve(sent);
                wire.borrow_mut().extend_from_slice(&answer);
                answer
            });
            *self.ended.borrow_mut() = script.clock();
            script
        });
        let host = Host {
            channel,
            disk: self.disk.clone(),
        };
        unlock(
            &init_data,
            &document,
            &mut td,
            LOG,
            host,
            self.nv_size,
            &self.bounds,
        )
    }

    /// The start goes well; what was opened.
    pub(super) fn opened(&self) -> (Opened<Disk, StateLedger<Script>>, Facts) {
        match self.unlock() {
            Unlocked::Persistent(persistent) => (persistent.opened, persistent.facts),
            Unlocked::Ephemeral(why) => panic!("ephemeral: {why:?}"),
            Unlocked::Refused(error) => panic!("refused: {error}"),
        }
    }

    /// The start is refused; why.
    pub(super) fn refused(&self) -> UnlockError {
        match self.unlock() {
            Unlocked::Refused(error) => error,
            Unlocked::Ephemeral(_) | Unlocked::Persistent(_) => panic!("it was not refused"),
        }
    }
}

pub(super) fn store<D: Device, L: Ledger>(opened: Opened<D, L>) -> state_store::Store<D, L> {
    match opened {
        Opened::Stored { store, .. }
        | Opened::Unacknowledged { store, .. }
        | Opened::Fresh(store) => store,
    }
}

/// A first start, which stores a state.
pub(super) fn first(start: &Start) {
    let (opened, facts) = start.opened();
    assert!(matches!(opened, Opened::Fresh(_)));
    assert_eq!(facts.journal.counter, 0);
    let commit = store(opened).commit(&state(1), Nonce([1; 12]));
    assert_eq!(commit.answer(), state_store::Answer::Response);
}

/// A later start, which finds it.
pub(super) fn second(start: &Start) -> Facts {
    let (opened, facts) = start.opened();
    let (Opened::Stored { state: found, .. } | Opened::Unacknowledged { state: found, .. }) =
        opened
    else {
        panic!("there is no state");
    };
    assert_eq!(found.engine, [1; 100]);
    facts
}
