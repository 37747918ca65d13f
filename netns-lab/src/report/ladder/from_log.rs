//! From the record of a world in virtual time to a ladder.
//!
//! All that depends on the form of that record is in this file.

mod label;
mod summarise;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Column, ColumnKind, Fate, Ladder, Step, StepKind, Tone};
use crate::virtual_time::{EventLog, LogEntry};

/// A place of a world, for the columns of a ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LadderPlace {
    /// Its name in the world.
    pub name: String,
    /// What it is.
    pub kind: ColumnKind,
    /// Index of what it is attached to; none for the core.
    pub above: Option<usize>,
}

/// What an entry of the log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Place(usize),
    /// The link above a place, towards the core.
    Up(usize),
    /// The same link, away from the core.
    Down(usize),
}

/// A packet that has left one place and not come to the next.
#[derive(Debug, Clone, Copy)]
struct Flight {
    /// Index of its step.
    step: usize,
    journey: usize,
}

/// Where a packet is that goes on at once.
#[derive(Debug, Clone, Copy)]
struct Stop {
    place: usize,
    at: Duration,
    journey: usize,
    /// The arrow by which it came to the core, which ends further on.
    arrow: Option<usize>,
}

#[derive(Debug)]
struct Builder<'a> {
    places: &'a [LadderPlace],
    subjects: BTreeMap<String, Subject>,
    /// Each with the journey that it belongs to.
    steps: Vec<(usize, Step)>,
    /// For each journey, whether it came to a host.
    journeys: Vec<bool>,
    flights: BTreeMap<(usize, Arc<[u8]>), VecDeque<Flight>>,
    stop: Option<Stop>,
}

impl Ladder {
    /// Makes a ladder of the record of a world in virtual time.
    ///
    /// The columns are `places`, in this order; what happened elsewhere is
    /// left out. A packet that the core carries on is one arrow across it. Of
    /// a record with more steps than anybody reads, the packets that came to a
    /// host are shown, then the first of the others; the rest is counted.
    pub fn from_log(title: &str, places: &[LadderPlace], log: &EventLog) -> Self {
        let mut builder = Builder::new(places);
        for entry in log.entries() {
            builder.entry(entry);
        }
        let column = |place: &LadderPlace| Column {
            name: place.name.clone(),
            kind: place.kind,
        };
        Self {
            title: title.to_owned(),
            columns: places.iter().map(column).collect(),
            steps: summarise::summarised(builder.steps, &builder.journeys),
        }
    }
}

impl<'a> Builder<'a> {
    fn new(places: &'a [LadderPlace]) -> Self {
        let mut subjects = BTreeMap::new();
        for (index, place) in places.iter().enumerate() {
            let name = &place.name;
            subjects.insert(name.clone(), Subject::Place(index));
            subjects.insert(format!("{name} up"), Subject::Up(index));
            subjects.insert(format!("{name} down"), Subject::Down(index));
        }
        Self {
            places,
            subjects,
            steps: Vec::new(),
            journeys: Vec::new(),
            flights: BTreeMap::new(),
            stop: None,
        }
    }

    fn entry(&mut self, entry: &LogEntry) {
        match self.subjects.get(&*entry.place).copied() {
            Some(Subject::Place(place)) => self.visit(place, entry),
            Some(Subject::Up(place)) => {
                if let Some(above) = self.above(place) {
                    self.depart(place, above, entry);
                }
            }
            Some(Subject::Down(place)) => {
                if let Some(above) = self.above(place) {
                    self.depart(above, place, entry);
                }
            }
            None => {}
        }
    }

    fn above(&self, place: usize) -> Option<usize> {
        let above = self.places[place].above?;
        (above < self.places.len()).then_some(above)
    }

    /// A packet is at a place.
    fn visit(&mut self, place: usize, entry: &LogEntry) {
        let key = (place, Arc::clone(&entry.packet));
        let flight = self
            .flights
            .get_mut(&key)
            .and_then(VecDeque::pop_front)
            .filter(|_| entry.verdict != "sent");
        if let Some(flight) = flight
            && let StepKind::Arrow { arrives, .. } = &mut self.steps[flight.step].1.kind
        {
            *arrives = Some(entry.at);
        }
        let journey = flight.map_or_else(|| self.new_journey(), |flight| flight.journey);
        let kind = self.places[place].kind;
        let passes_core = kind == ColumnKind::Core && entry.verdict == "routed";
        self.stop = Some(Stop {
            place,
            at: entry.at,
            journey,
            arrow: flight.map(|flight| flight.step).filter(|_| passes_core),
        });
        if passes_core || entry.verdict == "sent" {
            return;
        }
        self.journeys[journey] |= kind == ColumnKind::Host;
        let kind = StepKind::Note {
            column: place,
            text: entry.verdict.clone().into_owned(),
            tone: tone(&entry.verdict, kind, &entry.packet),
        };
        self.steps.push((journey, Step { at: entry.at, kind }));
    }

    /// A packet is put on a link.
    fn depart(&mut self, from: usize, to: usize, entry: &LogEntry) {
        let stop = self
            .stop
            .filter(|stop| stop.place == from && stop.at == entry.at);
        let journey = stop.map_or_else(|| self.new_journey(), |stop| stop.journey);
        let lost = entry.verdict != "carried";
        let fate = if lost {
            Fate::Lost(entry.verdict.clone().into_owned())
        } else {
            Fate::Carried
        };
        let step = match stop.and_then(|stop| stop.arrow) {
            Some(step) => {
                if let StepKind::Arrow {
                    to: end,
                    arrives,
                    fate: outcome,
                    ..
                } = &mut self.steps[step].1.kind
                {
                    (*end, *arrives, *outcome) = (to, None, fate);
                }
                step
            }
            None => {
                let kind = StepKind::Arrow {
                    from,
                    to,
                    arrives: None,
                    label: label::of(&entry.packet),
                    fate,
                };
                self.steps.push((journey, Step { at: entry.at, kind }));
                self.steps.len() - 1
            }
        };
        if !lost {
            let flights = self.flights.entry((to, Arc::clone(&entry.packet)));
            flights.or_default().push_back(Flight { step, journey });
        }
    }

    fn new_journey(&mut self) -> usize {
        self.journeys.push(false);
        self.journeys.len() - 1
    }
}

/// Returns whether a verdict is good news.
fn tone(verdict: &str, place: ColumnKind, packet: &[u8]) -> Tone {
    let bad = [
        "DROP", "dropped", "ignored", "ended", "to no", "lost", "answered", "private", "no route",
    ];
    if bad.iter().any(|start| verdict.starts_with(start)) {
        return Tone::Bad;
    }
    let is_reset = label::of(packet).starts_with("RST");
    if is_reset && place == ColumnKind::Host {
        Tone::Bad
    } else if place == ColumnKind::Host {
        Tone::Good
    } else {
        Tone::Neutral
    }
}
