//! Edits of the manifests, which a seed repeats.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Result;

use super::{
    ledger::Ledger,
    services::{SERVICES, STEADY, Spec, nodes},
};
use crate::process::{Dice, Host};

/// What no manifest can be.
const BROKEN: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a: b\nspec: {}\n";
/// Edits after which a broken file is repaired, at most.
const REPAIR: usize = 40;

/// The manifests, as they are.
pub struct Editor<'a> {
    host: &'a Host,
    ledger: Arc<Ledger>,
    dice: Dice,
    specs: Vec<Spec>,
    /// Files that are broken now.
    broken: BTreeSet<usize>,
    third_node: bool,
    /// Edits made.
    pub edits: usize,
}

impl<'a> Editor<'a> {
    /// Writes what there is in the beginning.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn new(host: &'a Host, ledger: &Arc<Ledger>, seed: u64) -> Result<Self> {
        let mut editor = Self {
            host,
            ledger: Arc::clone(ledger),
            dice: Dice::new(seed),
            specs: (0..SERVICES).map(Spec::first).collect(),
            broken: BTreeSet::new(),
            third_node: false,
            edits: 0,
        };
        for number in 0..SERVICES {
            editor.publish(number)?;
        }
        host.write("nodes.yaml", nodes(false))?;
        Ok(editor)
    }

    /// Every file says what it shall.
    pub fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }

    fn publish(&mut self, number: usize) -> Result<()> {
        let spec = &self.specs[number];
        let may = spec.places.map(|condition| spec.exists && condition.may_answer());
        let places = || may.iter().enumerate();
        places().filter(|(_, may)| **may).for_each(|(place, _)| self.ledger.admit(number, place));
        let file = format!("s{number}.yaml");
        if spec.exists {
            self.host.write(&file, spec.text(number))?;
        } else if self.host.manifests().join(&file).exists() {
            self.host.remove(&file)?;
        }
        places().filter(|(_, may)| !**may).for_each(|(place, _)| self.ledger.dismiss(number, place));
        self.broken.remove(&number);
        Ok(())
    }

    /// One edit, or a burst of them.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn edit(&mut self) -> Result<()> {
        let count = if self.dice.below(40) == 0 { 5 + self.dice.below(25) } else { 1 };
        for _ in 0..count {
            self.edits += 1;
            self.one()?;
        }
        Ok(())
    }

    fn one(&mut self) -> Result<()> {
        let number = self.dice.below(SERVICES);
        let changing = STEADY + self.dice.below(SERVICES - STEADY);
        let dice = &mut self.dice;
        match dice.below(100) {
            0..55 => self.specs[number].redo_backends(number, dice),
            55..70 => {
                self.specs[changing].reshape(dice);
                return self.publish(changing);
            }
            70..85 => {
                self.specs[changing].exists = !self.specs[changing].exists;
                return self.publish(changing);
            }
            85..89 => {
                // A service that is away has no file that could break.
                if self.specs[number].exists {
                    self.broken.insert(number);
                    self.host.write(&format!("s{number}.yaml"), BROKEN)?;
                }
                return Ok(());
            }
            89..92 => {
                self.third_node = !self.third_node;
                return self.host.write("nodes.yaml", nodes(self.third_node));
            }
            _ => {
                let broken = self.broken.first().copied();
                return broken.map_or(Ok(()), |number| self.publish(number));
            }
        }
        self.publish(number)?;
        if self.edits.is_multiple_of(REPAIR) { self.repair() } else { Ok(()) }
    }

    /// Repairs every file.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn repair(&mut self) -> Result<()> {
        self.broken.clone().into_iter().try_for_each(|number| self.publish(number))
    }

    /// Deletes everything.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn clear(&mut self) -> Result<()> {
        for number in 0..SERVICES {
            self.specs[number].exists = false;
            self.publish(number)?;
        }
        self.host.remove("nodes.yaml")
    }
}
