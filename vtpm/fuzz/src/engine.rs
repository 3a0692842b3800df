//! An engine whose every answer follows from the command: what it does is known before it does it.

use vtpm::{Engine, EngineFailure, Locality, MAX_RESPONSE, Progress};

/// TPM_RC_FAILURE, as a whole response.
pub const FAILURE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];
/// TPM_RC_CANCELED, as a whole response.
const CANCELED: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09];

/// What the engine makes of a command.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Slices that it takes beside the first.
    pub slices: usize,
    /// The bytes that it writes, and how many it says it wrote; or it fails.
    pub response: Option<(Vec<u8>, usize)>,
}

impl Answer {
    /// To this command at this locality.
    pub fn to(locality: u8, command: &[u8]) -> Self {
        // FNV-1a, 64 bits.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        let hash = command.iter().fold(0xCBF2_9CE4_8422_2325, mix);
        let hash = mix(hash, &locality);
        let slices = match hash >> 8 & 3 {
            0 => (hash >> 10 & 3) as usize,
            _ => 0,
        };
        let data: Vec<u8> = (0..(hash >> 16 & 0x3F))
            .map(|at| mix(hash, &(at as u8)) as u8)
            .collect();
        let whole = message(&data);
        let length = whole.len();
        let response = match hash >> 24 & 0x1F {
            0 => None,
            1 => Some((whole, length + 1)),
            2 => Some((whole, length - 1)),
            3 => Some((whole, 5)),
            4 => Some((whole, MAX_RESPONSE + 1)),
            5 => Some((vec![0xFF; 10], 10)),
            6 => Some((message(&[0x5A; MAX_RESPONSE - 10]), MAX_RESPONSE)),
            7 => Some((message(&[0xA5; MAX_RESPONSE - 138]), MAX_RESPONSE - 128)),
            8 => Some((message(&[0xA5; MAX_RESPONSE - 137]), MAX_RESPONSE - 127)),
            _ => Some((whole, length)),
        };
        Self { slices, response }
    }

    /// To a command that has given up.
    pub fn canceled() -> Self {
        Self {
            slices: 0,
            response: Some((CANCELED.to_vec(), CANCELED.len())),
        }
    }
}

/// TPM_ST_NO_SESSIONS, the size, code 0, and `data`.
pub fn message(data: &[u8]) -> Vec<u8> {
    let size = 10 + data.len() as u32;
    [&[0x80, 0x01], &size.to_be_bytes()[..], &[0; 4], data].concat()
}

/// What was asked of an engine since it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Commands that were begun, with their localities.
    pub commands: Vec<(u8, Vec<u8>)>,
    pub cancels: usize,
    pub abandons: usize,
    pub resets: usize,
}

/// The engine.
#[derive(Default)]
pub struct Scripted {
    pub asked: Asked,
    pub established: bool,
    /// The rest of the command that runs.
    running: Option<Answer>,
}

impl Scripted {
    /// That a dynamic launch has reached or not.
    pub fn new(established: bool) -> Self {
        Self {
            established,
            ..Self::default()
        }
    }

    fn answer(answer: Answer, into: &mut [u8]) -> Result<Progress, EngineFailure> {
        let (bytes, length) = answer.response.ok_or(EngineFailure)?;
        for (place, byte) in into.iter_mut().zip(bytes) {
            *place = byte;
        }
        Ok(Progress::Done(length))
    }
}

impl Engine for Scripted {
    fn execute(
        &mut self,
        _locality: Locality,
        _command: &[u8],
        _response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        Err(EngineFailure)
    }

    fn begin(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        assert!(self.running.is_none(), "one command at a time");
        let locality = locality.number();
        self.asked.commands.push((locality, command.to_vec()));
        let answer = Answer::to(locality, command);
        match answer.slices {
            0 => Self::answer(answer, response),
            _ => {
                self.running = Some(answer);
                Ok(Progress::Running)
            }
        }
    }

    fn go_on(
        &mut self,
        _until: Option<u64>,
        response: &mut [u8],
    ) -> Result<Progress, EngineFailure> {
        let mut answer = self.running.take().expect("a command runs");
        if answer.slices <= 1 {
            return Self::answer(answer, response);
        }
        answer.slices -= 1;
        self.running = Some(answer);
        Ok(Progress::Running)
    }

    fn cancel(&mut self) {
        self.asked.cancels += 1;
        assert!(
            self.running.is_some(),
            "nothing is canceled that does not run"
        );
        self.running = Some(Answer::canceled());
    }

    fn abandon(&mut self) {
        self.asked.abandons += 1;
        assert!(
            self.running.take().is_some(),
            "nothing is abandoned that does not run"
        );
    }

    fn reset(&mut self) -> Result<(), EngineFailure> {
        self.asked.resets += 1;
        Ok(())
    }

    fn establishment(&self) -> bool {
        self.established
    }

    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure> {
        assert!(locality >= Locality::Three);
        self.established = false;
        Ok(())
    }
}
