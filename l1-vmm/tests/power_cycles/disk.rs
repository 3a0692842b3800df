//! A disk in memory that outlives its machine, and can fail.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use l1_vmm::entropy::EntropyError;
use l1_vmm::state::StoreKeeper;
use l1_vmm::state::keeper::{Fresh, Kept};
use state_store::layout::SECTORS_MIN;
use state_store::{Device, DeviceError, MachineId, NoLedger, Rollback, StateKey, open};
use tpm2_ref_sys::NV_MEMORY_SIZE;

#[derive(Clone)]
pub struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Arc<AtomicBool>,
    writes: Arc<AtomicUsize>,
}

impl Disk {
    pub fn new() -> Self {
        let length = usize::try_from(SECTORS_MIN).unwrap() * 512;
        Self {
            bytes: Arc::new(Mutex::new(vec![0; length])),
            fails: Arc::default(),
            writes: Arc::default(),
        }
    }

    /// Whether it fails from now on.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// How often it was written to.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    fn answer(&self) -> Result<(), DeviceError> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(DeviceError::Failed),
            false => Ok(()),
        }
    }

    /// The state on it, unlocked.
    pub fn keeper(&self) -> Kept<Self, NoLedger> {
        let key = StateKey::take(&mut [7; 32]).into();
        let machine = MachineId([1; 32]);
        let rollback = Rollback::None;
        let opened = open(
            self.clone(),
            NoLedger,
            &key,
            machine,
            NV_MEMORY_SIZE,
            rollback,
        )
        .unwrap();
        let fresh = Fresh {
            nv_size: NV_MEMORY_SIZE,
            policy: "policy",
        };
        StoreKeeper::begin(opened, &fresh, random).ok().unwrap()
    }
}

fn random(into: &mut [u8]) -> Result<(), EntropyError> {
    super::support::entropy(into).map_err(|_| EntropyError::Exhausted)
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        SECTORS_MIN
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        self.answer()?;
        let at = usize::try_from(sector).unwrap() * 512;
        into.copy_from_slice(&self.bytes.lock().unwrap()[at..at + into.len()]);
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        self.answer()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(sector).unwrap() * 512;
        self.bytes.lock().unwrap()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        self.answer()
    }
}
