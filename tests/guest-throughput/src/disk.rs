//! Reads and writes of the disk, past the page cache: one after the other with `pread` and `pwrite`, many at a time with
//! io_uring.
//!
//! Each 4 KiB of the disk begin with their number, which every read is checked for and every write keeps: a request that
//! moved nothing fails.

use crate::plan::{Content, Plan};
use crate::{Marks, Moved};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::rc::Rc;
use tokio_uring::buf::BoundedBuf;

const DISK: &str = "/dev/vda";
/// What begins with its number, and what buffers are aligned to.
const BLOCK: usize = 4096;
/// Bytes of the disk that are used.
const USED: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Random,
    Sequential,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Case {
    mark: u8,
    name: &'static str,
    way: Way,
    order: Order,
    /// Bytes of a request.
    size: usize,
    /// Requests at a time.
    depth: usize,
    /// Requests of a round.
    count: u64,
}

/// The cases; the bench knows them by their marks and names.
const CASES: [Case; 10] = {
    use Order::{Random, Sequential};
    use Way::{Read, Write};
    const fn case(
        mark: u8,
        name: &'static str,
        (way, order): (Way, Order),
        size: usize,
        depth: usize,
        count: u64,
    ) -> Case {
        Case {
            mark,
            name,
            way,
            order,
            size,
            depth,
            count,
        }
    }
    const KIB: usize = 1024;
    [
        case(
            1,
            "random read, 4 KiB, depth 1",
            (Read, Random),
            4 * KIB,
            1,
            512,
        ),
        case(
            2,
            "random read, 4 KiB, depth 32",
            (Read, Random),
            4 * KIB,
            32,
            4096,
        ),
        case(
            3,
            "random write, 4 KiB, depth 1",
            (Write, Random),
            4 * KIB,
            1,
            512,
        ),
        case(
            4,
            "random write, 4 KiB, depth 32",
            (Write, Random),
            4 * KIB,
            32,
            4096,
        ),
        case(
            5,
            "sequential read, 128 KiB, depth 1",
            (Read, Sequential),
            128 * KIB,
            1,
            256,
        ),
        case(
            6,
            "sequential read, 128 KiB, depth 32",
            (Read, Sequential),
            128 * KIB,
            32,
            512,
        ),
        case(
            7,
            "sequential write, 128 KiB, depth 1",
            (Write, Sequential),
            128 * KIB,
            1,
            256,
        ),
        case(
            8,
            "sequential write, 128 KiB, depth 32",
            (Write, Sequential),
            128 * KIB,
            32,
            512,
        ),
        case(
            9,
            "sequential read, 1 MiB, depth 1",
            (Read, Sequential),
            1024 * KIB,
            1,
            64,
        ),
        case(
            10,
            "sequential write, 1 MiB, depth 1",
            (Write, Sequential),
            1024 * KIB,
            1,
            64,
        ),
    ]
};

/// All cases.
pub(crate) fn measure(marks: &Marks, plan: &Plan, content: Content) -> io::Result<()> {
    for case in CASES {
        let count = plan.part(case.count, case.depth as u64);
        let mut round = || case.round(count, content);
        marks.measure(case.mark, case.name, plan.rounds, &mut round)?;
    }
    Ok(())
}

fn open() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(DISK)
}

impl Case {
    fn round(&self, count: u64, content: Content) -> io::Result<Moved> {
        let places = Rc::new(Places::new(self.order, self.size as u64, count, content));
        match self.depth {
            1 => self.one_after_the_other(&places)?,
            depth => self.many_at_a_time(&places, depth)?,
        }
        Ok(Moved {
            units: count,
            bytes: count * self.size as u64,
        })
    }

    fn one_after_the_other(&self, places: &Places) -> io::Result<()> {
        let file = open()?;
        let (mut buffer, room) = aligned(self.size);
        let buffer = buffer.get_mut(room).unwrap_or_default();
        while let Some(at) = places.next() {
            match self.way {
                Way::Read => {
                    file.read_exact_at(buffer, at)?;
                    places.check(buffer, at)?;
                }
                Way::Write => {
                    number(buffer, at);
                    file.write_all_at(buffer, at)?;
                }
            }
        }
        Ok(())
    }

    fn many_at_a_time(&self, places: &Rc<Places>, depth: usize) -> io::Result<()> {
        let file = Rc::new(tokio_uring::fs::File::from_std(open()?));
        tokio_uring::start(async {
            let tasks = (0..depth).map(|_| {
                let (file, places, case) = (Rc::clone(&file), Rc::clone(places), *self);
                tokio_uring::spawn(async move { case.requests(&file, &places).await })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.map_err(io::Error::other)??;
            }
            Ok(())
        })
    }

    /// Requests until there are no more, one at a time.
    async fn requests(&self, file: &tokio_uring::fs::File, places: &Places) -> io::Result<()> {
        let (mut buffer, room) = aligned(self.size);
        while let Some(at) = places.next() {
            let (moved, slice) = match self.way {
                Way::Read => file.read_at(buffer.slice(room.clone()), at).await,
                Way::Write => {
                    number(buffer.get_mut(room.clone()).unwrap_or_default(), at);
                    file.write_at(buffer.slice(room.clone()), at).submit().await
                }
            };
            buffer = slice.into_inner();
            if moved? != self.size {
                return Err(io::Error::other("a request was cut short"));
            }
            if self.way == Way::Read {
                places.check(buffer.get(room.clone()).unwrap_or_default(), at)?;
            }
        }
        Ok(())
    }
}

/// Where the requests of a round go: the same in each run.
#[derive(Debug)]
struct Places {
    order: Order,
    size: u64,
    content: Content,
    left: Cell<u64>,
    state: Cell<u64>,
}

impl Places {
    fn new(order: Order, size: u64, count: u64, content: Content) -> Self {
        Self {
            order,
            size,
            content,
            left: Cell::new(count),
            state: Cell::new(match order {
                Order::Random => 0x9E37_79B9_7F4A_7C15,
                Order::Sequential => 0,
            }),
        }
    }

    /// Whether each block that was read begins as it should.
    fn check(&self, buffer: &[u8], at: u64) -> io::Result<()> {
        for (block, number) in buffer.chunks_exact(BLOCK).zip(at / BLOCK as u64..) {
            let begin = match self.content {
                Content::Numbers => number,
                Content::Zeroes => 0,
            };
            if block.first_chunk() != Some(&begin.to_le_bytes()) {
                return Err(io::Error::other(format!("block {number} is not there")));
            }
        }
        Ok(())
    }

    /// The next one, in bytes from the disk's start.
    fn next(&self) -> Option<u64> {
        self.left.set(self.left.get().checked_sub(1)?);
        let state = self.state.get();
        let (place, next) = match self.order {
            Order::Sequential => (state, state + 1),
            Order::Random => {
                // Marsaglia's xorshift64.
                let mut next = state;
                next ^= next << 13;
                next ^= next >> 7;
                next ^= next << 17;
                (next >> 16, next)
            }
        };
        self.state.set(next);
        Some(place % (USED / self.size) * self.size)
    }
}

/// Memory, and where in it so many bytes are that begin at a page.
fn aligned(size: usize) -> (Vec<u8>, Range<usize>) {
    let buffer = vec![0; size + BLOCK];
    let begin = buffer.as_ptr().align_offset(BLOCK);
    (buffer, begin..begin + size)
}

/// Writes each block's number to its begin.
fn number(buffer: &mut [u8], at: u64) {
    for (block, number) in buffer.chunks_exact_mut(BLOCK).zip(at / BLOCK as u64..) {
        if let Some(begin) = block.first_chunk_mut() {
            *begin = number.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_names_are_no_others() {
        for (mark, case) in (1..).zip(CASES) {
            assert_eq!(case.mark, mark, "{}", case.name);
            assert!(case.count >= case.depth as u64);
            assert!(case.name.ends_with(&format!("depth {}", case.depth)));
        }
    }

    #[test]
    fn places_are_on_the_disk_and_not_always_the_same() {
        for case in CASES {
            let places = Places::new(case.order, case.size as u64, case.count, Content::Numbers);
            let all: Vec<u64> = std::iter::from_fn(|| places.next()).collect();
            assert_eq!(all.len() as u64, case.count);
            let fits =
                |at: &u64| at.is_multiple_of(case.size as u64) && at + case.size as u64 <= USED;
            assert!(all.iter().all(fits), "{}", case.name);
            let mut distinct = all.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert!(distinct.len() * 2 >= all.len().min((USED / case.size as u64) as usize));
            assert_eq!(
                all.is_sorted() || all.len() as u64 > USED / case.size as u64,
                case.order == Order::Sequential
            );
        }
    }

    #[test]
    fn a_block_without_its_number_is_missed() {
        let (mut buffer, room) = aligned(2 * BLOCK);
        assert_eq!(buffer[room.clone()].as_ptr() as usize % BLOCK, 0);
        let blocks = &mut buffer[room];
        let places = |content| Places::new(Order::Random, 2 * BLOCK as u64, 1, content);
        let check = |blocks: &[u8], at| places(Content::Numbers).check(blocks, at);
        assert!(places(Content::Zeroes).check(blocks, 7).is_ok());
        number(blocks, 7 * BLOCK as u64);
        assert!(places(Content::Zeroes).check(blocks, 7).is_err());
        assert!(check(blocks, 7 * BLOCK as u64).is_ok());
        assert!(check(blocks, 8 * BLOCK as u64).is_err());
        blocks[BLOCK] ^= 1;
        assert!(check(blocks, 7 * BLOCK as u64).is_err());
    }
}
