//! The places of a topology, by name and as columns of a ladder.

use super::Topology;
use crate::{
    fabric::CORE,
    report::{ColumnKind, LadderPlace},
};

impl Topology {
    /// Returns the names of the hosts, in the order of description.
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| host.name.as_str())
    }

    /// Returns the boxes in front of a host, the innermost first, with their names; none if there
    /// is no such host.
    pub fn boxes_of(&self, host: &str) -> Vec<(String, &crate::NatSpec)> {
        let Some(host) = self.hosts.iter().find(|it| it.name == host) else {
            return Vec::new();
        };
        let own = (1..).zip(&host.nats).map(|(number, nat)| match number {
            1 => (format!("{}.nat", host.name), nat),
            number => (format!("{}.nat{number}", host.name), nat),
        });
        let mut boxes: Vec<_> = own.collect();
        let mut above = host.shared.as_deref();
        while let Some(shared) = self.boxes.iter().find(|it| Some(&*it.name) == above) {
            // Boxes are behind earlier ones, but nobody has checked that yet.
            if boxes.iter().any(|(name, _)| *name == shared.name) {
                break;
            }
            boxes.push((shared.name.clone(), &shared.nat));
            above = shared.shared.as_deref();
        }
        boxes
    }

    /// Returns the columns of a ladder that shows some of the hosts with their boxes: the first
    /// host on the left of the core, the others on its right.
    ///
    /// A box that hosts share is shown once.
    pub fn ladder_places(&self, hosts: &[&str]) -> Vec<LadderPlace> {
        let mut places: Vec<(String, ColumnKind, Option<String>)> = Vec::new();
        for (index, host) in hosts.iter().enumerate() {
            let mut chain = vec![((*host).to_owned(), ColumnKind::Host)];
            let boxes = self.boxes_of(host).into_iter();
            chain.extend(boxes.map(|(name, _)| (name, ColumnKind::Nat)));
            let above = chain.iter().skip(1).map(|(name, _)| name.clone());
            let above: Vec<_> = above.chain([CORE.to_owned()]).collect();
            let column = chain.into_iter().zip(above);
            let mut column: Vec<_> = column
                .map(|((name, kind), above)| (name, kind, Some(above)))
                .filter(|(name, ..)| places.iter().all(|(known, ..)| known != name))
                .collect();
            if index == 0 {
                column.push((CORE.to_owned(), ColumnKind::Core, None));
            } else {
                column.reverse();
            }
            places.append(&mut column);
        }
        let index_of = |name: &str| places.iter().position(|(known, ..)| known == name);
        let place = |(name, kind, above): &(String, ColumnKind, Option<String>)| LadderPlace {
            name: name.clone(),
            kind: *kind,
            above: above.as_deref().and_then(index_of),
        };
        places.iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxSpec, HostSpec, NatSpec};

    #[test]
    fn ladders_have_the_core_in_the_middle_and_shared_boxes_once() {
        let nat = NatSpec::port_preserving();
        let topology = Topology::new()
            .shared_box(BoxSpec::new("cgn", nat))
            .host(HostSpec::new("a").behind(nat).behind(nat))
            .host(HostSpec::new("b").behind(nat).behind_shared("cgn"))
            .host(HostSpec::new("c").behind_shared("cgn"));
        let places = topology.ladder_places(&["a", "b", "c"]);
        let names: Vec<_> = places.iter().map(|place| place.name.as_str()).collect();
        assert_eq!(
            names,
            ["a", "a.nat", "a.nat2", "core", "cgn", "b.nat", "b", "c"]
        );
        let above: Vec<_> = places.iter().map(|place| place.above).collect();
        let expected = [
            Some(1),
            Some(2),
            Some(3),
            None,
            Some(3),
            Some(4),
            Some(5),
            Some(4),
        ];
        assert_eq!(above, expected);
        assert_eq!(topology.host_names().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
