//! NAT labs made of Linux network namespaces.
