//! What happens to hosts and boxes: addresses come and go, machines restart.

use std::net::IpAddr;

use super::World;
use crate::{
    fabric::{HostId, Network, NodeId, WorldError},
    link::LinkSpec,
    virtual_time::socket::SocketId,
};

/// Faults. They take no time; [`World::set_link_up`] makes some last.
impl World {
    /// Gives the link above a host or box another behaviour, in both directions. What is on it
    /// already leaves it as it would have.
    ///
    /// # Errors
    ///
    /// - [`WorldError::UnknownPlace`] if there is no such host or box.
    /// - [`WorldError::InvalidLink`] if there can be no such link.
    pub fn set_link(&mut self, name: &str, spec: LinkSpec) -> Result<(), WorldError> {
        spec.check()?;
        let node = self.fabric.find(name).ok_or(WorldError::UnknownPlace)?;
        self.fabric.set_link(node, spec);
        Ok(())
    }

    /// Gives a host one more address, behind those that it has.
    ///
    /// # Errors
    ///
    /// [`WorldError`] if the address is already in use where it would have to be routed, by the
    /// host itself perhaps.
    pub fn add_address(&mut self, host: HostId, address: IpAddr) -> Result<(), WorldError> {
        let mut addresses = self.addresses(host).to_vec();
        if addresses.contains(&address) {
            return Err(WorldError::AddressInUse(address.into()));
        }
        addresses.push(address);
        self.set_addresses(host, &addresses)
    }

    /// Takes an address from a host; nothing happens if it does not have it.
    ///
    /// Sockets that are bound to it stay. As on Linux, they can send nothing in IPv4, and in IPv6
    /// they send what nobody can answer.
    ///
    /// # Errors
    ///
    /// [`WorldError::UnknownPlace`] if the host is of another world.
    pub fn remove_address(&mut self, host: HostId, address: IpAddr) -> Result<(), WorldError> {
        let mut addresses = self.addresses(host).to_vec();
        addresses.retain(|own| *own != address);
        self.set_addresses(host, &addresses)
    }

    fn set_addresses(&mut self, id: HostId, addresses: &[IpAddr]) -> Result<(), WorldError> {
        let host = self.hosts.get_mut(&id.0).ok_or(WorldError::UnknownPlace)?;
        let networks = addresses.iter().map(|&address| address.into()).collect();
        self.fabric.set_networks(id.0, networks)?;
        host.set_addresses(addresses);
        Ok(())
    }

    /// Lets a host lose its power and start again at once: all its sockets are gone without a
    /// packet, and it answers what comes for them as it answers strangers. The sockets count as
    /// changed ([`World::take_changed`]).
    ///
    /// # Errors
    ///
    /// [`WorldError::UnknownPlace`] if the host is of another world.
    pub fn crash(&mut self, host: HostId) -> Result<(), WorldError> {
        let seed = self.fabric.random();
        let inner = self.hosts.get_mut(&host.0);
        let lost = inner.ok_or(WorldError::UnknownPlace)?.crash(seed);
        let lost = lost.into_iter().map(|number| SocketId { host, number });
        self.changed.extend(lost);
        self.flush(host.0);
        Ok(())
    }

    /// Lets a box that has a model ([`World::model`]) lose its power and start again at once,
    /// without its mappings; with `external` it comes back with other external addresses.
    ///
    /// # Errors
    ///
    /// - [`WorldError::UnknownPlace`] if there is no such box.
    /// - [`WorldError::InvalidNat`] if the addresses lack a family to translate to.
    /// - [`WorldError::AddressInUse`] if somebody else has one of them. The box is then as before.
    pub fn reboot(&mut self, name: &str, external: Option<&[IpAddr]>) -> Result<(), WorldError> {
        let (Some(node), Some(model)) = (self.fabric.find(name), self.models.get(name)) else {
            return Err(WorldError::UnknownPlace);
        };
        let model = model.clone();
        if let Some(external) = external {
            model.with(|model| model.check_external(external))?;
            let former = model.with(|model| model.external().to_vec());
            self.replace_networks(node, &former, external)?;
        }
        model.with(|model| model.reboot(external.map(<[_]>::to_vec)))?;
        Ok(())
    }

    /// Has a box reached at other addresses instead of its former ones.
    fn replace_networks(
        &mut self,
        node: NodeId,
        former: &[IpAddr],
        external: &[IpAddr],
    ) -> Result<(), WorldError> {
        let is_former = |network| former.iter().any(|&address| network == address.into());
        let others = self.fabric.networks(node).iter().copied();
        let mut networks: Vec<_> = others.filter(|network| !is_former(*network)).collect();
        networks.extend(external.iter().map(|&address| Network::from(address)));
        self.fabric.set_networks(node, networks)
    }
}
