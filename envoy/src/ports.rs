//! Which port each part of the demo listens on, and how a port is kept for it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpSocket};

/// Length of the queue of connections that were not accepted yet.
const BACKLOG: u32 = 128;

/// One listening part of the demo: its name in `envoy.yaml` (`${PORT_NAME}`) and in the environment
/// (`DEMO_PORT_NAME`), and its default port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Name in upper case.
    pub name: &'static str,
    /// Port unless the environment says otherwise.
    pub default_port: u16,
}

impl Place {
    /// The environment variable that sets this port.
    pub fn variable(self) -> String {
        format!("DEMO_PORT_{}", self.name)
    }

    /// Its port: the default one, or that which `variable` (the environment) gives.
    ///
    /// # Errors
    /// The variable is no port; the message names it.
    pub fn chosen(self, variable: impl Fn(&str) -> Option<String>) -> Result<u16> {
        variable(&self.variable()).map_or(Ok(self.default_port), |text| parse_port(self, &text))
    }
}

/// Envoy's edge listener, where the demo's requests arrive.
pub const GATEWAY: Place = Place { name: "GATEWAY", default_port: 18080 };
/// Envoy's admin interface.
pub const ADMIN: Place = Place { name: "ADMIN", default_port: 18081 };
/// The receiver of spans and events.
pub const RECEIVER: Place = Place { name: "RECEIVER", default_port: 18082 };
/// The first service.
pub const STOREFRONT: Place = Place { name: "STOREFRONT", default_port: 18100 };
/// Envoy's listener in front of the first service.
pub const STOREFRONT_INBOUND: Place = Place { name: "STOREFRONT_INBOUND", default_port: 18101 };
/// Envoy's listener for the calls that the first service makes.
pub const STOREFRONT_OUTBOUND: Place = Place { name: "STOREFRONT_OUTBOUND", default_port: 18102 };
/// The second service.
pub const CART: Place = Place { name: "CART", default_port: 18110 };
/// Envoy's listener in front of the second service.
pub const CART_INBOUND: Place = Place { name: "CART_INBOUND", default_port: 18111 };
/// Envoy's listener for the calls that the second service makes.
pub const CART_OUTBOUND: Place = Place { name: "CART_OUTBOUND", default_port: 18112 };
/// The third service.
pub const PAYMENTS: Place = Place { name: "PAYMENTS", default_port: 18120 };
/// Envoy's listener in front of the third service.
pub const PAYMENTS_INBOUND: Place = Place { name: "PAYMENTS_INBOUND", default_port: 18121 };
/// Envoy's listener for the calls that the third service makes.
pub const PAYMENTS_OUTBOUND: Place = Place { name: "PAYMENTS_OUTBOUND", default_port: 18122 };
/// A company outside the mesh, which the third service calls.
pub const BANK: Place = Place { name: "BANK", default_port: 18130 };

/// Every part of the demo that listens.
pub const PLACES: [Place; 13] = [
    GATEWAY,
    ADMIN,
    RECEIVER,
    STOREFRONT,
    STOREFRONT_INBOUND,
    STOREFRONT_OUTBOUND,
    CART,
    CART_INBOUND,
    CART_OUTBOUND,
    PAYMENTS,
    PAYMENTS_INBOUND,
    PAYMENTS_OUTBOUND,
    BANK,
];

/// A port of the loopback interface that nobody else can be given while this value lives.
///
/// The socket behind it is bound with `SO_REUSEPORT` and never listens: Envoy, which binds its
/// listeners with that option too, can still take the port, and no connection ends up here.
#[derive(Debug)]
pub struct ReservedPort {
    socket: TcpSocket,
    address: SocketAddr,
}

impl ReservedPort {
    /// Keeps a port that the system chooses.
    ///
    /// # Errors
    /// The system has no port left.
    pub fn any() -> Result<Self> {
        Self::bind(0)
    }

    /// Keeps a given port.
    ///
    /// # Errors
    /// Somebody listens on it already.
    pub fn exactly(port: u16) -> Result<Self> {
        // Or another Envoy of the same user would not be noticed.
        assert_free(port)?;
        Self::bind(port)
    }

    fn bind(port: u16) -> Result<Self> {
        // Without SO_REUSEADDR yet, which would let others bind the port while nobody listens on it.
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Address of the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to listen on it.
    ///
    /// # Errors
    /// What the system answers.
    pub fn listen(self) -> Result<TcpListener> {
        // Connections of an earlier run that still time out must not block the port for the next run.
        self.socket.set_reuseaddr(true)?;
        Ok(self.socket.listen(BACKLOG)?)
    }
}

/// Fails when somebody listens on a port.
fn assert_free(port: u16) -> Result<()> {
    drop(StdListener::bind((Ipv4Addr::LOCALHOST, port))?);
    Ok(())
}

/// The demo's ports, each kept for its place until somebody listens there.
#[derive(Debug)]
pub struct Ports {
    addresses: HashMap<Place, SocketAddr>,
    /// All but Envoy's admin, which Envoy binds without `SO_REUSEPORT`.
    reserved: HashMap<Place, ReservedPort>,
}

impl Ports {
    /// The default ports, or those that `variable` (the environment) gives.
    ///
    /// # Errors
    /// A variable that is no port, or a port that is taken; both name the variable.
    pub fn fixed(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut ports = Self { addresses: HashMap::new(), reserved: HashMap::new() };
        for place in PLACES {
            let port = place.chosen(&variable)?;
            ports.keep(place, port).with_context(|| {
                let name = place.name.to_lowercase().replace('_', " ");
                let variable = place.variable();
                format!("port {port} ({name}) is taken; choose another one with {variable}=<port>")
            })?;
        }
        Ok(ports)
    }

    fn keep(&mut self, place: Place, port: u16) -> Result<()> {
        self.addresses.insert(place, (Ipv4Addr::LOCALHOST, port).into());
        if place == ADMIN {
            return assert_free(port);
        }
        self.reserved.insert(place, ReservedPort::exactly(port)?);
        Ok(())
    }

    /// Ports that the system chooses, so that several demos run side by side. That of Envoy's admin
    /// is 0: Envoy chooses it, and tells.
    ///
    /// # Errors
    /// The system has no ports left.
    pub fn free() -> Result<Self> {
        let mut ports = Self { addresses: HashMap::new(), reserved: HashMap::new() };
        ports.addresses.insert(ADMIN, (Ipv4Addr::LOCALHOST, 0).into());
        for place in PLACES.into_iter().filter(|place| *place != ADMIN) {
            let port = ReservedPort::any()?;
            ports.addresses.insert(place, port.address());
            ports.reserved.insert(place, port);
        }
        Ok(ports)
    }

    /// Address of a place.
    pub fn address(&self, place: Place) -> SocketAddr {
        self.addresses[&place]
    }

    /// Listens at a place, which can be done once.
    ///
    /// # Errors
    /// Somebody listens there already.
    pub fn listen(&mut self, place: Place) -> Result<TcpListener> {
        self.reserved.remove(&place).with_context(|| format!("{} listens already", place.name))?.listen()
    }
}

fn parse_port(place: Place, text: &str) -> Result<u16> {
    match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => bail!("{} is {text:?}, but a port is a number from 1 to 65535", place.variable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_an_error_with_its_variable() {
        let taken = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let error = Ports::fixed(|name| (name == "DEMO_PORT_GATEWAY").then(|| port.clone())).unwrap_err();
        assert!(error.to_string().contains(&format!("port {port} (gateway) is taken")), "{error}");
        assert!(error.to_string().contains("DEMO_PORT_GATEWAY="), "{error}");
    }

    #[tokio::test]
    async fn a_variable_that_is_no_port_is_an_error() {
        for text in ["", "0", "65536", "http"] {
            let error = Ports::fixed(|_| Some(text.to_owned())).unwrap_err();
            assert!(error.to_string().contains("DEMO_PORT_GATEWAY"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn two_places_cannot_have_the_same_port() {
        let port = ReservedPort::any().unwrap().address().port().to_string();
        assert!(Ports::fixed(|_| Some(port.clone())).is_err());
    }

    #[tokio::test]
    async fn a_reserved_port_is_given_to_nobody_else_but_can_be_listened_on() {
        let reserved = ReservedPort::any().unwrap();
        let address = reserved.address();
        assert!(StdListener::bind(address).is_err());
        let listener = reserved.listen().unwrap();
        let (caller, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        assert!(caller.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn places_differ_in_name_and_port() {
        for (index, one) in PLACES.iter().enumerate() {
            for other in &PLACES[index + 1..] {
                assert!(one.name != other.name && one.default_port != other.default_port, "{one:?} {other:?}");
            }
        }
    }
}
