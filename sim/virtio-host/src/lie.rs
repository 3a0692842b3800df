//! What a device does wrong on purpose.

use alloc::vec::Vec;

/// A way of misbehaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// `used-id:ID`: completions are of this id, all 32 bits of it.
    UsedId(u32),
    /// `used-len:LENGTH`: completions tell this length.
    UsedLength(u32),
    /// `used-jump:BY`: the used ring's index goes on by so many more.
    IndexJump(u16),
    /// `silent`: requests are taken and never completed.
    Silent,
    /// `slow:NANOSECONDS`: a read of a register takes this long.
    Slow(u64),
    /// `twice`: requests are completed twice.
    Twice,
    /// `late`: requests are completed once the device was reset and started again.
    Late,
    /// `rewrite`: a request's descriptors and its place in the available ring are overwritten when it is taken.
    Rewrite,
    /// `mute`: there are no interrupts.
    Mute,
    /// `vector:VECTOR`: interrupts are of this vector.
    Vector(u8),
    /// `storm:EVERY`: an interrupt of each vector of the device at every so many exits to the host.
    Storm(u64),
    /// `reset-never`: the status does not become 0.
    ResetNever,
    /// `features-refused`: FEATURES_OK does not stay.
    FeaturesRefused,
    /// `features-flip`: a half of the offered features is inverted at every third read.
    FeaturesFlip,
    /// `no-version-1`: VIRTIO_F_VERSION_1 is not offered.
    NoVersion1,
    /// `needs-reset`: the status says so.
    NeedsReset,
    /// `reset-itself`: the device is as after a reset, at each mark of the guest's.
    ResetItself,
    /// `vanish`: the function is gone from the bus.
    Vanish,
    /// `config-flip`: the configuration and its generation are other ones at each read.
    ConfigurationFlip,
    /// `register:OFFSET:VALUE`: the register at an offset of the common configuration reads as this.
    Register {
        /// Offset.
        offset: u32,
        /// Value.
        value: u64,
    },
    /// `config:OFFSET:BYTE`: a byte of the PCI configuration space.
    Space {
        /// Offset.
        offset: u8,
        /// Value.
        value: u8,
    },
    /// `device-config:OFFSET:BYTE`: a byte of the device's configuration.
    Configuration {
        /// Offset.
        offset: u16,
        /// Value.
        value: u8,
    },
    /// `header:OFFSET:BYTE`: a byte of the header of each packet that a network or sockets give the driver.
    Header {
        /// Offset.
        offset: u16,
        /// Value.
        value: u8,
    },
    /// `read-only`: a disk offers VIRTIO_BLK_F_RO, and its requests that write fail.
    ReadOnly,
    /// `no-flush`: a disk does not offer VIRTIO_BLK_F_FLUSH.
    NoFlush,
    /// `sector-size:BYTES`: a disk's blk_size, and requests of no whole blocks fail.
    SectorSize(u32),
    /// `io-error`: a disk's requests fail.
    IoError,
    /// `forget`: a disk says that it wrote, and did not.
    Forget,
    /// `garbage`: a disk reads as bytes of no meaning.
    Garbage,
    /// `cut:WRITE[:SECTORS][:torn|:unflushed]`: the power fails at a disk's WRITE-th request that writes, of which SECTORS
    /// (none, if it is not said) are written.
    Cut {
        /// The request, counted from 1; with a time by marks, from there.
        write: u64,
        /// Sectors of it that are written.
        sectors: u64,
        /// What else is lost.
        loss: CutLoss,
    },
    /// `cut-flush:FLUSH[:unflushed]`: the power fails at a disk's FLUSH-th flush: before it, with `unflushed`, and else when
    /// all is on the disk and nobody has been told.
    CutFlush {
        /// The flush, counted as [`Cut`](Self::Cut) counts.
        flush: u64,
        /// What else is lost; a flush has nothing to tear.
        loss: CutLoss,
    },
}

/// What a power cut does beyond ending the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutLoss {
    /// Nothing.
    Nothing,
    /// The first half of one sector more is written.
    Torn,
    /// Nothing is left of what was written since the last flush.
    Unflushed,
}

/// A device lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedLie {
    /// How.
    pub lie: Lie,
    /// When.
    pub when: When,
}

/// When a device lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `LIE[@FROM[+TIMES]]`: by the requests that the device takes.
    Requests {
        /// From this request on, counted from 1.
        from: u64,
        /// For so many requests; for ever if it is not said.
        times: Option<u64>,
    },
    /// `LIE@mark:FROM[-TO]`: by the guest's marks.
    Marks {
        /// From the guest's mark of this value on.
        from: u8,
        /// Until its mark of this value; for ever if it is not said.
        to: Option<u8>,
    },
}

impl When {
    fn parse(text: &str) -> Option<Self> {
        if let Some(marks) = text.strip_prefix("mark:") {
            let mark = |text| number(text)?.try_into().ok();
            return Some(match marks.split_once('-') {
                None => Self::Marks {
                    from: mark(marks)?,
                    to: None,
                },
                Some((from, to)) => Self::Marks {
                    from: mark(from)?,
                    to: Some(mark(to)?),
                },
            });
        }
        let (from, times) = match text.split_once('+') {
            None => (text, None),
            Some((from, times)) => (from, Some(number(times)?)),
        };
        let from = number(from)?;
        Some(Self::Requests { from, times })
    }
}

impl PlannedLie {
    /// Reads a lie from its text.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, when) = match text.split_once('@') {
            Some((what, when)) => (what, When::parse(when)?),
            None => {
                let always = When::Requests {
                    from: 1,
                    times: None,
                };
                (text, always)
            }
        };
        let lie = Lie::parse(what)?;
        Some(Self { lie, when })
    }
}

/// A planned lie, and whether the guest's marks have begun it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    planned: PlannedLie,
    marked: bool,
}

impl Plan {
    fn holds(&self, request: u64) -> bool {
        match self.planned.when {
            When::Marks { .. } => self.marked,
            When::Requests { from, times } => {
                let since = request.checked_sub(from);
                since.is_some_and(|since| times.is_none_or(|times| since < times))
            }
        }
    }
}

impl Lie {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let name = words.next()?;
        let mut value = || number(words.next()?);
        let lie = match name {
            "used-id" => Self::UsedId(value()?.try_into().ok()?),
            "used-len" => Self::UsedLength(value()?.try_into().ok()?),
            "used-jump" => Self::IndexJump(value()?.try_into().ok()?),
            "silent" => Self::Silent,
            "slow" => Self::Slow(value()?),
            "twice" => Self::Twice,
            "late" => Self::Late,
            "rewrite" => Self::Rewrite,
            "mute" => Self::Mute,
            "vector" => Self::Vector(value()?.try_into().ok()?),
            "storm" => Self::Storm(value().filter(|&every| every != 0)?),
            "reset-never" => Self::ResetNever,
            "features-refused" => Self::FeaturesRefused,
            "features-flip" => Self::FeaturesFlip,
            "no-version-1" => Self::NoVersion1,
            "needs-reset" => Self::NeedsReset,
            "reset-itself" => Self::ResetItself,
            "vanish" => Self::Vanish,
            "config-flip" => Self::ConfigurationFlip,
            "register" => Self::Register {
                offset: value()?.try_into().ok()?,
                value: value()?,
            },
            "config" => Self::Space {
                offset: value()?.try_into().ok()?,
                value: value()?.try_into().ok()?,
            },
            "device-config" => Self::Configuration {
                offset: value()?.try_into().ok()?,
                value: value()?.try_into().ok()?,
            },
            "header" => Self::Header {
                offset: value()?.try_into().ok()?,
                value: value()?.try_into().ok()?,
            },
            "read-only" => Self::ReadOnly,
            "no-flush" => Self::NoFlush,
            "sector-size" => Self::SectorSize(value()?.try_into().ok().filter(|&size| size != 0)?),
            "io-error" => Self::IoError,
            "forget" => Self::Forget,
            "garbage" => Self::Garbage,
            "cut-flush" => {
                let flush = value()?;
                let loss = match words.next() {
                    None => CutLoss::Nothing,
                    Some("unflushed") => CutLoss::Unflushed,
                    Some(_) => return None,
                };
                Self::CutFlush { flush, loss }
            }
            "cut" => {
                let write = value()?;
                let mut loss = CutLoss::Nothing;
                let mut sectors = 0;
                for word in words.by_ref() {
                    match word {
                        "torn" => loss = CutLoss::Torn,
                        "unflushed" => loss = CutLoss::Unflushed,
                        _ => sectors = number(word)?,
                    }
                }
                Self::Cut {
                    write,
                    sectors,
                    loss,
                }
            }
            _ => return None,
        };
        words.next().is_none().then_some(lie)
    }
}

/// The lies of one device, and how far it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lies {
    plans: Vec<Plan>,
    requests: u64,
}

impl Lies {
    pub(crate) fn plan(&mut self, planned: PlannedLie) {
        self.plans.push(Plan {
            planned,
            marked: false,
        });
    }

    /// The guest makes a mark. Whether a lie begins with it.
    pub(crate) fn mark(&mut self, value: u8) -> bool {
        let mut begins = false;
        for Plan { planned, marked } in &mut self.plans {
            if let When::Marks { from, to } = planned.when {
                if from == value {
                    *marked = true;
                    begins = true;
                } else if to == Some(value) {
                    *marked = false;
                }
            }
        }
        begins
    }

    /// A request begins; what is asked for until the next is of this one.
    pub(crate) fn next_request(&mut self) {
        self.requests += 1;
    }

    /// What `find` makes of the first lie that holds now and that it knows. Before the first request, those hold that
    /// begin with it.
    pub(crate) fn find<T>(&self, find: impl FnMut(Lie) -> Option<T>) -> Option<T> {
        self.now().find_map(find)
    }

    /// Whether a lie holds now.
    pub(crate) fn tell(&self, lie: Lie) -> bool {
        self.now().any(|now| now == lie)
    }

    /// All that hold now.
    pub(crate) fn now(&self) -> impl Iterator<Item = Lie> {
        let request = self.requests.max(1);
        let holding = move |plan: &&Plan| plan.holds(request);
        self.plans
            .iter()
            .filter(holding)
            .map(|plan| plan.planned.lie)
    }
}

/// A decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_are_read_with_their_time() {
        let always = |lie| {
            let when = When::Requests {
                from: 1,
                times: None,
            };
            Some(PlannedLie { lie, when })
        };
        assert_eq!(
            PlannedLie::parse("used-id:0x10000"),
            always(Lie::UsedId(0x1_0000))
        );
        assert_eq!(PlannedLie::parse("silent"), always(Lie::Silent));
        assert_eq!(
            PlannedLie::parse("io-error@7+3"),
            Some(PlannedLie {
                lie: Lie::IoError,
                when: When::Requests {
                    from: 7,
                    times: Some(3),
                },
            })
        );
        for (text, from, to) in [("mute@mark:3", 3, None), ("mute@mark:3-0x10", 3, Some(16))] {
            let planned = PlannedLie::parse(text).map(|planned| planned.when);
            assert_eq!(planned, Some(When::Marks { from, to }), "{text}");
        }
        let flush = |loss| always(Lie::CutFlush { flush: 2, loss });
        assert_eq!(PlannedLie::parse("cut-flush:2"), flush(CutLoss::Nothing));
        assert_eq!(
            PlannedLie::parse("cut-flush:2:unflushed"),
            flush(CutLoss::Unflushed)
        );
        let cut = |sectors, loss| {
            always(Lie::Cut {
                write: 5,
                sectors,
                loss,
            })
        };
        assert_eq!(PlannedLie::parse("cut:5"), cut(0, CutLoss::Nothing));
        assert_eq!(PlannedLie::parse("cut:5:torn"), cut(0, CutLoss::Torn));
        assert_eq!(
            PlannedLie::parse("cut:5:3:unflushed"),
            cut(3, CutLoss::Unflushed)
        );
        for bad in [
            "",
            "used-id",
            "used-id:1:2",
            "silent:1",
            "silent@",
            "silent@x",
            "silent@1+x",
            "storm:0",
            "sector-size:0",
            "vector:256",
            "silent@mark:256",
            "silent@mark:1-",
            "cut-flush:1:torn",
            "cut",
            "nonsense",
        ] {
            assert_eq!(PlannedLie::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_lie_holds_from_its_request_on_as_often_as_it_says() {
        let mut lies = Lies::default();
        lies.plan(PlannedLie::parse("silent@2+2").unwrap());
        lies.plan(PlannedLie::parse("mute").unwrap());
        assert!(lies.tell(Lie::Mute), "before the first request");
        let held = [1, 2, 3, 4].map(|_| {
            lies.next_request();
            lies.tell(Lie::Silent)
        });
        assert_eq!(held, [false, true, true, false]);
        assert!(lies.tell(Lie::Mute));
    }

    #[test]
    fn a_lie_holds_from_one_mark_of_the_guests_to_another() {
        let mut lies = Lies::default();
        lies.plan(PlannedLie::parse("silent@mark:2-4").unwrap());
        let held = [1, 2, 3, 4, 5, 2].map(|mark| {
            let begins = lies.mark(mark);
            assert_eq!(begins, mark == 2);
            lies.tell(Lie::Silent)
        });
        assert_eq!(held, [false, true, true, false, false, true]);
    }
}
