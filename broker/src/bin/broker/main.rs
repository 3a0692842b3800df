//! `tdp-vtpm-broker`: the operator's command, and the server.
#![forbid(unsafe_code)]

mod serve;

use anyhow::{Context, Result};
use broker::configuration::{Halves, Wishes};
use broker::operator::{Database, Place};
use broker::status::time;
use broker::store::postgresql::Failover;
use broker_ledger::{Recovery, Standing};
use broker_protocol::ledger::{Commit, SlotDigest};
use clap::{Parser, Subcommand, ValueEnum};
use init_data::{Otherwise, Rollback};
use sha2::{Digest, Sha384};
use std::io::Write;
use std::path::PathBuf;

/// Key broker of persistent vTPMs.
///
/// Gives an L1 the key of its machine's state if the evidence that it shows passes the operator's policy, and keeps the
/// ledger that says which state is the latest.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The broker's folder.
    #[arg(long, value_name = "DIR", default_value = "broker", global = true)]
    directory: PathBuf,
    /// The file of the operator's key, under which all secrets are; `operator.key` in the folder without it.
    #[arg(long, value_name = "FILE", global = true)]
    operator_key: Option<PathBuf>,
    /// A database of PostgreSQL: postgres://USER@HOST/DATABASE. Without it, SQLite in the folder. In the environment its
    /// password is not seen in the list of processes.
    #[arg(
        long,
        value_name = "URL",
        env = "TDP_VTPM_BROKER_DATABASE",
        hide_env_values = true,
        global = true
    )]
    database: Option<String>,
    /// Go on when a standby has become PostgreSQL's primary: replication is synchronous, so that it has all that was
    /// acknowledged. Without this its ledger counts as restored from a backup.
    #[arg(long, global = true)]
    failover_loses_nothing: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a broker: its folder, its identity, and the operator's key if the file is not there.
    Init,
    /// Serve machines, and the operator's page.
    Serve(serve::Options),
    /// Enrol a machine: prints its identity and an init-data document, whose SHA-384 its host sets as MRCONFIGID.
    Enrol {
        /// The operator's name for it.
        name: String,
        /// What finds out an older state: the ledger before a command is answered, the ledger after it, or nothing.
        #[arg(long, value_enum, default_value_t = RollbackName::Ledger)]
        rollback: RollbackName,
        /// Where the halves of the state's key come from.
        #[arg(long, value_enum, default_value_t = KeyName::Broker)]
        key: KeyName,
        /// What is done where the state cannot be opened: no guest, or a new TPM.
        #[arg(long, value_enum, default_value_t = StateName::Require)]
        state: StateName,
        /// Write the document to this file.
        #[arg(long, value_name = "FILE")]
        init_data: Option<PathBuf>,
    },
    /// Take another init-data document for a machine's: `key` and `state` of each that is presented must be as in it.
    Configure {
        /// Name or identity.
        machine: String,
        /// The document.
        init_data: PathBuf,
    },
    /// List machines.
    List,
    /// Show what is known of a machine.
    Show {
        /// Name or identity.
        machine: String,
    },
    /// Show the audit trail, the newest first.
    Events {
        /// How many.
        #[arg(long, default_value_t = 100)]
        most: u32,
    },
    /// Take a machine out: it gets neither its key nor commits.
    Revoke {
        /// Name or identity.
        machine: String,
        /// Take the revocation back.
        #[arg(long)]
        undo: bool,
    },
    /// Allow a policy of the verifier for a machine, beside those that it has: a new L1, kernel or command line.
    Allow {
        /// Name or identity.
        machine: String,
        /// The policy file, as `cargo xtask measure --policy` writes it.
        policy: PathBuf,
        /// Its name; that of the file without it. One of the same name is replaced.
        #[arg(long)]
        name: Option<String>,
    },
    /// Take a policy back.
    Disallow {
        /// Name or identity.
        machine: String,
        /// The policy's name.
        policy: String,
    },
    /// Update the L1 of a machine whose key the hardware has a part in: the L1 that it has gives the state away at its next
    /// start, and the one that passes this policy takes it. See docs/broker.md.
    Upgrade {
        /// Name or identity.
        machine: String,
        /// The policy of the new L1, which is allowed already.
        #[arg(long, value_name = "POLICY", required_unless_present = "end")]
        to: Option<String>,
        /// The new L1 has the state: forget the key of the update.
        #[arg(long, conflicts_with = "to")]
        end: bool,
        /// End it also where the ledger does not tell that the new L1 has the state.
        #[arg(long, requires = "end")]
        anyway: bool,
    },
    /// Have a machine go on that the ledger refuses. The owner must know why it did: see docs/broker.md.
    Recover {
        /// Name or identity.
        machine: String,
        #[command(subcommand)]
        how: How,
    },
    /// Write a backup of the database. What is restored from it gives no lease until each machine is recovered.
    Backup {
        /// Where to; the file must not be there.
        file: PathBuf,
    },
    /// Make a broker of a backup, in a new folder or an empty database. It gives no lease until each machine is recovered.
    Restore {
        /// What `backup` wrote.
        file: PathBuf,
    },
    /// Make the tables of an earlier version this version's. No broker may serve from them meanwhile.
    Migrate,
    /// Seal all secrets with a new operator's key. Brokers that serve have to be started again, with the new one.
    RotateKey,
    /// Take old events out of the audit trail. That they were is an event.
    Prune {
        /// Of which age, in days, and older.
        #[arg(long, value_name = "DAYS")]
        older_than: u32,
    },
    /// Print the broker's public key, as init-data documents name it.
    Key,
    /// Write a machine's key as a resource that another KBS can keep. **It is the key**: hand it over as such.
    SignResource {
        /// Name or identity.
        machine: String,
        /// Where to; the file must not be there.
        file: PathBuf,
    },
}

/// `rollback` of an init-data document.
#[derive(Clone, Copy, ValueEnum)]
enum RollbackName {
    Ledger,
    Lazy,
    None,
}

/// `key` of an init-data document.
#[derive(Clone, Copy, ValueEnum)]
enum KeyName {
    Broker,
    Both,
}

/// `state` of an init-data document.
#[derive(Clone, Copy, ValueEnum)]
enum StateName {
    Require,
    Ephemeral,
}

#[derive(Subcommand)]
enum How {
    /// Go on from the state that the ledger knows, or from another one.
    Accept {
        /// The epoch that wrote the state, its counter and its digest, as `cargo xtask state` shows them.
        #[arg(long, num_args = 3, value_names = ["EPOCH", "COUNTER", "DIGEST"])]
        state: Option<Vec<String>>,
    },
    /// Begin with no state: the TPM of before is gone.
    Fresh,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let place = Place {
        folder: arguments.directory,
        key: arguments.operator_key,
        database: Database::named(
            arguments.database,
            match arguments.failover_loses_nothing {
                true => Failover::LosesNothing,
                false => Failover::MayLose,
            },
        )?,
    };
    let mut out = std::io::stdout().lock();
    match &arguments.command {
        Command::Init => return made(&mut out, &place, &place.create()?),
        Command::Restore { file } => return made(&mut out, &place, &place.restore(file)?),
        Command::RotateKey => {
            let rotated = place.rotate()?;
            writeln!(
                out,
                "operator's key {}\nbefore {}",
                rotated.key.display(),
                rotated.before.display()
            )?;
            return Ok(());
        }
        Command::Migrate => {
            match place.migrate()? {
                Some(version) => writeln!(out, "the tables were of version {version}")?,
                None => writeln!(out, "the tables are of this version")?,
            }
            return Ok(());
        }
        _ => {}
    }
    let mut broker = place.open()?;
    match arguments.command {
        Command::Init | Command::Restore { .. } | Command::Migrate | Command::RotateKey => {}
        Command::Serve(options) => {
            drop(out);
            return serve::serve(broker, &options);
        }
        Command::Enrol {
            name,
            rollback,
            key,
            state,
            init_data,
        } => {
            let wishes = Wishes {
                otherwise: match state {
                    StateName::Require => Otherwise::Refuse,
                    StateName::Ephemeral => Otherwise::Ephemeral,
                },
                rollback: match rollback {
                    RollbackName::Ledger => Rollback::Ledger,
                    RollbackName::Lazy => Rollback::Lazy,
                    RollbackName::None => Rollback::None,
                },
                halves: match key {
                    KeyName::Broker => Halves::Broker,
                    KeyName::Both => Halves::Both,
                },
            };
            let enrolment = broker.enrol(&name, wishes)?;
            writeln!(out, "machine {}", enrolment.machine)?;
            writeln!(
                out,
                "broker {}",
                hex::encode(broker.identity.identity().to_sec1())
            )?;
            writeln!(
                out,
                "mrconfigid {}",
                hex::encode(Sha384::digest(&enrolment.init_data))
            )?;
            match init_data {
                Some(file) => std::fs::write(&file, &enrolment.init_data)
                    .with_context(|| format!("{}", file.display()))?,
                None => write!(out, "\n{}", enrolment.init_data)?,
            }
        }
        Command::Configure { machine, init_data } => {
            let configured = broker.configure(&machine, &init_data)?;
            writeln!(
                out,
                "key {}\nstate {}",
                configured.halves.name(),
                configured.otherwise.name()
            )?;
        }
        Command::List => {
            for machine in broker.machines()? {
                let standing = standing(machine.entry.standing);
                let (name, id, entry) = (&machine.name, machine.id, &machine.entry);
                writeln!(
                    out,
                    "{name} {id} {standing} epoch {} counter {}",
                    entry.epoch,
                    entry.counter()
                )?;
            }
        }
        Command::Show { machine } => show(&mut out, &mut broker, &machine)?,
        Command::Events { most } => {
            for event in broker.events(most)? {
                let machine = event
                    .machine
                    .map_or_else(|| "-".into(), |id| id.to_string());
                writeln!(
                    out,
                    "{} {machine} {} {}",
                    time(event.time),
                    event.event,
                    event.detail
                )?;
            }
        }
        Command::Revoke { machine, undo } => {
            let standing = match undo {
                true => Standing::Enrolled,
                false => Standing::Revoked,
            };
            broker.set_standing(&machine, standing)?;
        }
        Command::Allow {
            machine,
            policy,
            name,
        } => {
            let name = broker.allow(&machine, &policy, name.as_deref())?;
            writeln!(out, "policy {name} is allowed for {machine}")?;
        }
        Command::Disallow { machine, policy } => broker.disallow(&machine, &policy)?,
        Command::Upgrade {
            machine,
            to,
            anyway,
            ..
        } => match to {
            Some(policy) => {
                broker.begin_upgrade(&machine, &policy)?;
                writeln!(
                    out,
                    "start {machine} with the L1 that it has, then with that of policy {policy}, then `upgrade {machine} --end`"
                )?;
            }
            None => broker.end_upgrade(&machine, anyway)?,
        },
        Command::Recover { machine, how } => broker.recover(&machine, recovery(how)?)?,
        Command::Backup { file } => broker.backup(&file)?,
        Command::Prune { older_than } => {
            let before = broker::now().saturating_sub(u64::from(older_than) * 24 * 60 * 60);
            writeln!(out, "{} events are gone", broker.prune(before)?)?;
        }
        Command::Key => {
            writeln!(out, "{}", hex::encode(broker.identity.identity().to_sec1()))?;
        }
        Command::SignResource { machine, file } => {
            let resource = broker.sign_resource(&machine)?;
            broker::seal::write_new(&file, resource.as_bytes())
                .with_context(|| format!("{}", file.display()))?;
        }
    }
    Ok(())
}

fn made(out: &mut impl Write, place: &Place, broker: &broker::operator::Opened) -> Result<()> {
    let key = hex::encode(broker.identity.identity().to_sec1());
    Ok(writeln!(
        out,
        "broker {}\nkey {key}",
        place.folder.display()
    )?)
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Enrolled => "enrolled",
        Standing::Revoked => "revoked",
        Standing::Restored => "restored",
    }
}

fn show(out: &mut impl Write, broker: &mut broker::operator::Opened, named: &str) -> Result<()> {
    let machine = broker.machine(named)?;
    let (policies, events) = broker.known(&machine.id)?;
    let entry = &machine.entry;
    writeln!(out, "name {}\nmachine {}", machine.name, machine.id)?;
    writeln!(
        out,
        "enrolled {}\nstanding {}",
        time(machine.enrolled),
        standing(entry.standing)
    )?;
    writeln!(
        out,
        "rollback {}
epoch {}",
        machine.rollback.name(),
        entry.epoch
    )?;
    match &machine.configured {
        Some(configured) => writeln!(
            out,
            "key {}\nstate {}",
            configured.halves.name(),
            configured.otherwise.name()
        )?,
        None => writeln!(out, "key and state not known: see `configure`")?,
    }
    for (what, commit) in [("latest", &entry.latest), ("pending", &entry.pending)] {
        if let Some(commit) = commit {
            writeln!(
                out,
                "{what} {} {} {}",
                commit.epoch, commit.counter, commit.digest
            )?;
        }
    }
    for policy in policies {
        writeln!(
            out,
            "policy {} allowed {}",
            policy.name,
            time(policy.allowed)
        )?;
    }
    if let Some(upgrade) = broker.upgrade(&machine.id)? {
        writeln!(out, "upgrade to {}", upgrade.to)?;
    }
    for event in events {
        writeln!(
            out,
            "event {} {} {}",
            time(event.time),
            event.event,
            event.detail
        )?;
    }
    Ok(())
}

fn recovery(how: How) -> Result<Option<Recovery>> {
    let state = match how {
        How::Fresh => return Ok(Some(Recovery::Fresh)),
        How::Accept { state } => state,
    };
    let Some(state) = state else {
        return Ok(None);
    };
    let [epoch, counter, digest] = state.as_slice() else {
        anyhow::bail!("--state has three values");
    };
    let mut bytes = [0; 48];
    hex::decode_to_slice(digest, &mut bytes).context("a digest is 96 hexadecimal digits")?;
    Ok(Some(Recovery::Accept(Commit {
        epoch: epoch.parse().context("EPOCH")?,
        counter: counter.parse().context("COUNTER")?,
        digest: SlotDigest(bytes),
    })))
}
