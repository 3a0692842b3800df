//! Who owns the TPM (PTP, "Locality": TPM_ACCESS_x, TPM_LOC_CTRL_x).

use super::LOCALITIES;

/// What a locality may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Request,
    Relinquish,
    Seize,
}

/// Who owns the TPM, from where the asker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Itself,
    Lower,
    Higher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// It gets the TPM.
    Grant,
    /// It gets the TPM, and who had it finds beenSeized.
    Take,
    /// Its request stays pending.
    Wait,
    /// Its request is none any more.
    Withdraw,
    /// The highest of those that wait gets the TPM.
    PassOn,
}

/// Asked, by whose TPM it is.
const ARBITRATION: [(Ask, [(Owner, Effect); 4]); 3] = [
    (
        Ask::Request,
        [
            (Owner::Nobody, Effect::Grant),
            (Owner::Itself, Effect::Nothing),
            (Owner::Lower, Effect::Wait),
            (Owner::Higher, Effect::Wait),
        ],
    ),
    (
        Ask::Relinquish,
        [
            (Owner::Nobody, Effect::Withdraw),
            (Owner::Itself, Effect::PassOn),
            (Owner::Lower, Effect::Withdraw),
            (Owner::Higher, Effect::Withdraw),
        ],
    ),
    (
        Ask::Seize,
        [
            (Owner::Nobody, Effect::Grant),
            (Owner::Itself, Effect::Nothing),
            (Owner::Lower, Effect::Take),
            (Owner::Higher, Effect::Nothing),
        ],
    ),
];

/// The TPM has another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) from: Option<u32>,
    pub(super) to: Option<u32>,
    pub(super) taken: bool,
}

#[derive(Default)]
pub(super) struct Localities {
    pub(super) owner: Option<u32>,
    pub(super) waits: [bool; LOCALITIES as usize],
    pub(super) seized: [bool; LOCALITIES as usize],
}

impl Localities {
    pub(super) fn ask(&mut self, who: u32, ask: Ask) -> Option<Turn> {
        let owner = match self.owner {
            None => Owner::Nobody,
            Some(owner) if owner == who => Owner::Itself,
            Some(owner) if owner < who => Owner::Lower,
            Some(_) => Owner::Higher,
        };
        let row = ARBITRATION.iter().find(|(asked, _)| *asked == ask);
        let (_, row) = row.expect("there is a row for each");
        let cell = row.iter().find(|(whose, _)| *whose == owner);
        let (_, effect) = cell.expect("there is a cell for each");
        let from = self.owner;
        let (to, taken) = match effect {
            Effect::Nothing => return None,
            Effect::Wait => {
                self.waits[who as usize] = true;
                return None;
            }
            Effect::Withdraw => {
                self.waits[who as usize] = false;
                return None;
            }
            Effect::Grant => (Some(who), false),
            Effect::Take => {
                self.seized[from? as usize] = true;
                (Some(who), true)
            }
            Effect::PassOn => (
                (0..LOCALITIES).rev().find(|it| self.waits[*it as usize]),
                false,
            ),
        };
        self.owner = to;
        if let Some(to) = to {
            self.waits[to as usize] = false;
        }
        Some(Turn { from, to, taken })
    }

    /// Whether another than `who` waits.
    pub(super) fn others_wait(&self, who: u32) -> bool {
        (0..LOCALITIES).any(|it| it != who && self.waits[it as usize])
    }
}
