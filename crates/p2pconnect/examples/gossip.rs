//! Talks to everybody under a topic: `gossip SERVER-ID@HOST:PORT TOPIC [SECRET]`
//!
//! The members know nothing but the topic. Each finds some others on the coordinator's board, dials
//! these, and passes on to all its neighbours what is new to it. So a line that is typed here comes
//! to everybody, and no member has many connections.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "an example talks to a person"
)]

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use p2pconnect::{Connection, DialPolicy, Endpoint, PeerId, Topic, TopicEvent};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, split, stdin},
    sync::{broadcast, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// How many neighbours a member looks for. It has more where others have found it.
const NEIGHBOURS: usize = 3;

/// How many messages a member keeps for those who come later, and knows again.
const KEPT: usize = 256;

/// The longest line that is read of a neighbour.
const LONGEST: u64 = 4096;

/// How often a member looks for others while it has too few neighbours.
const LOOKING: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (coordinator, topic) = match &arguments[..] {
        [coordinator, topic] => (coordinator, Topic::new(topic)),
        [coordinator, topic, secret] => (coordinator, Topic::with_secret(topic, secret.as_bytes())),
        _ => anyhow::bail!("usage: gossip SERVER-ID@HOST:PORT TOPIC [SECRET]"),
    };
    let builder = Endpoint::builder()
        .coordinator(coordinator.parse()?)
        .allow(DialPolicy::Anyone);
    let endpoint = builder.bind().await?;
    eprintln!("this is {}", endpoint.peer_id());
    let (typed, lines) = mpsc::channel(KEPT);
    let (heard, mut all) = mpsc::channel(KEPT);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut stdin = BufReader::new(stdin()).lines();
        while let Ok(Some(line)) = stdin.next_line().await {
            if typed.send(line).await.is_err() {
                break;
            }
        }
        // Whoever has nothing more to say goes on listening.
        typed.closed().await;
    });
    tasks.spawn(async move {
        while let Some(line) = all.recv().await {
            println!("{line}");
        }
    });
    gossip(endpoint, &topic, lines, heard).await
}

/// Takes part for as long as the future is polled: says `lines`, and tells what is `heard`.
async fn gossip(
    endpoint: Endpoint,
    topic: &Topic,
    mut lines: mpsc::Receiver<String>,
    heard: mpsc::Sender<String>,
) -> anyhow::Result<()> {
    // In this order, so that nobody who comes meanwhile is missed.
    let _announced = endpoint.announce(topic).await?;
    let mut watch = endpoint.watch(topic).await?;
    let mut member = Member::new(endpoint);
    let mut looking = interval(LOOKING);
    looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = 0;
    loop {
        tokio::select! {
            event = watch.next() => match event.context("the endpoint is closed")? {
                TopicEvent::Joined(peer) => member.others.push_front(peer),
                TopicEvent::Left(gone) => member.others.retain(|peer| *peer != gone),
                _ => {}
            },
            _ = looking.tick(), if member.lacks_neighbours() => {
                if member.others.is_empty() {
                    // Without an answer it is asked again.
                    let found = member.endpoint.lookup(topic).page().await;
                    member.others.extend(found.unwrap_or_default());
                }
                member.dial();
            }
            Some(line) = lines.recv() => {
                said += 1;
                let message = format!("{} {said} {line}", member.endpoint.peer_id());
                member.pass_on(message);
            }
            Some(connection) = connected(&member.endpoint, &mut member.dials) => {
                member.meet(connection);
            }
            Some(message) = member.coming.recv() => {
                if let Some(line) = member.pass_on(message) {
                    heard.send(line).await?;
                }
            }
            Some(ended) = member.talks.join_next() => {
                member.neighbours.remove(&ended?);
            }
        }
    }
}

/// A member of the topic, and its neighbours.
struct Member {
    endpoint: Arc<Endpoint>,
    /// Peers that may be dialled.
    others: VecDeque<PeerId>,
    dials: JoinSet<Option<Connection>>,
    neighbours: BTreeSet<PeerId>,
    talks: JoinSet<PeerId>,
    /// The newest messages: who has said it, its number, and the text.
    kept: VecDeque<String>,
    going: broadcast::Sender<String>,
    came: mpsc::Sender<String>,
    coming: mpsc::Receiver<String>,
}

impl Member {
    fn new(endpoint: Endpoint) -> Self {
        let (came, coming) = mpsc::channel(KEPT);
        Self {
            endpoint: Arc::new(endpoint),
            others: VecDeque::new(),
            dials: JoinSet::new(),
            neighbours: BTreeSet::new(),
            talks: JoinSet::new(),
            kept: VecDeque::new(),
            going: broadcast::Sender::new(KEPT),
            came,
            coming,
        }
    }

    fn lacks_neighbours(&self) -> bool {
        self.neighbours.len() + self.dials.len() < NEIGHBOURS
    }

    /// Dials others until there are enough. A board may be full of ids of nobody, so they are
    /// dialled a few at a time.
    fn dial(&mut self) {
        while self.lacks_neighbours()
            && let Some(peer) = self.others.pop_front()
        {
            if !self.neighbours.contains(&peer) {
                let endpoint = Arc::clone(&self.endpoint);
                self.dials
                    .spawn(async move { endpoint.dial(peer).await.ok() });
            }
        }
    }

    fn meet(&mut self, connection: Connection) {
        self.neighbours.insert(connection.peer_id());
        let before = self.kept.iter().cloned().collect();
        let talk = talk(
            connection,
            before,
            self.going.subscribe(),
            self.came.clone(),
        );
        self.talks.spawn(talk);
    }

    /// Passes a message on that is new here, and returns what it says.
    fn pass_on(&mut self, message: String) -> Option<String> {
        if self.kept.contains(&message) {
            return None;
        }
        self.kept.push_back(message.clone());
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
        let line = message.splitn(3, ' ').nth(2).map(str::to_owned);
        // Nobody hears it who is alone.
        self.going.send(message).unwrap_or_default();
        line
    }
}

/// Waits for somebody who has dialled this member, or whom it has dialled. Cancel safe.
async fn connected(
    endpoint: &Endpoint,
    dials: &mut JoinSet<Option<Connection>>,
) -> Option<Connection> {
    tokio::select! {
        accepted = endpoint.accept() => accepted,
        Some(dialled) = dials.join_next() => dialled.ok().flatten(),
    }
}

/// Tells a neighbour what was said before and what comes, and hears the same, until it is gone.
async fn talk(
    connection: Connection,
    before: Vec<String>,
    mut going: broadcast::Receiver<String>,
    came: mpsc::Sender<String>,
) -> PeerId {
    let peer = connection.peer_id();
    let (input, mut output) = split(connection);
    let hearing = async {
        let mut input = BufReader::new(input);
        let mut line = String::new();
        while (&mut input).take(LONGEST).read_line(&mut line).await? > 0 {
            let message = line.trim_end().to_owned();
            line.clear();
            if came.send(message).await.is_err() {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    let telling = async {
        for message in before {
            output.write_all(format!("{message}\n").as_bytes()).await?;
        }
        // A neighbour that is too slow has to come anew, and is told again then.
        while let Ok(message) = going.recv().await {
            output.write_all(format!("{message}\n").as_bytes()).await?;
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        ended = hearing => ended.unwrap_or_default(),
        ended = telling => ended.unwrap_or_default(),
    }
    peer
}
