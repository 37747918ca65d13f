//! From the record of a world in virtual time to a ladder.
//!
//! All that depends on the form of that record is in this file.

mod label;
mod summarise;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Column, ColumnKind, Fate, Ladder, Step, StepKind, Tone};
use crate::{
    link::Crossing,
    record::{DELIVERED, Event, EventLog, LogEntry, ROUTED},
};

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
    by_name: BTreeMap<&'a str, usize>,
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
    /// The columns are `places`, in this order; what happened elsewhere is left out. A packet that
    /// the core carries on is one arrow across it. Of a record with more steps than anybody reads,
    /// the packets that came to a host are shown, then the first of the others; the rest is
    /// counted.
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
        let names = places.iter().map(|place| place.name.as_str());
        let by_name = names.zip(0..).collect();
        Self {
            places,
            by_name,
            steps: Vec::new(),
            journeys: Vec::new(),
            flights: BTreeMap::new(),
            stop: None,
        }
    }

    fn entry(&mut self, entry: &LogEntry) {
        let place = |name: &str| self.by_name.get(name).copied();
        let (Some(from), Some(to)) = (place(&entry.from), place(&entry.to)) else {
            return;
        };
        match &entry.event {
            Event::Entered { crossing, .. } => {
                let loss = match crossing {
                    Crossing::Lost(loss) => Some(loss.to_string()),
                    Crossing::Exits { .. } => None,
                };
                self.depart(from, to, entry, loss);
            }
            Event::Arrived { verdict } => self.visit(to, entry, &verdict.to_string()),
            Event::AtGate { text, sent } => {
                let place = if *sent { from } else { to };
                let journey = self.new_journey();
                self.note(journey, place, entry.at, text, Tone::Neutral);
            }
        }
    }

    /// A packet is at a place.
    fn visit(&mut self, place: usize, entry: &LogEntry, verdict: &str) {
        let key = (place, Arc::clone(&entry.packet));
        let flight = self.flights.get_mut(&key).and_then(VecDeque::pop_front);
        if let Some(flight) = flight
            && let StepKind::Arrow { arrives, .. } = &mut self.steps[flight.step].1.kind
        {
            *arrives = Some(entry.at);
        }
        let journey = flight.map_or_else(|| self.new_journey(), |flight| flight.journey);
        let kind = self.places[place].kind;
        let passes_core = kind == ColumnKind::Core && verdict == ROUTED;
        // What a host sends then is another packet.
        self.stop = (kind != ColumnKind::Host).then_some(Stop {
            place,
            at: entry.at,
            journey,
            arrow: flight.map(|flight| flight.step).filter(|_| passes_core),
        });
        self.journeys[journey] |= kind == ColumnKind::Host;
        if !passes_core && verdict != DELIVERED {
            let tone = tone(verdict, kind, &entry.packet);
            self.note(journey, place, entry.at, verdict, tone);
        }
    }

    fn note(&mut self, journey: usize, column: usize, at: Duration, text: &str, tone: Tone) {
        let text = text.to_owned();
        let kind = StepKind::Note { column, text, tone };
        self.steps.push((journey, Step { at, kind }));
    }

    /// A packet is put on a link.
    fn depart(&mut self, from: usize, to: usize, entry: &LogEntry, loss: Option<String>) {
        let stop = self
            .stop
            .filter(|stop| stop.place == from && stop.at == entry.at);
        let journey = stop.map_or_else(|| self.new_journey(), |stop| stop.journey);
        let lost = loss.is_some();
        let fate = loss.map_or(Fate::Carried, Fate::Lost);
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
