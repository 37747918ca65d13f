//! x
#![allow(warnings)]
use netns_lab::*;
use std::net::*;
use std::process::ExitCode;
use std::time::*;
fn main() -> Result<ExitCode, Error> {
    if let Some(c) = isolate()? {
        return Ok(c);
    }
    let t = Instant::now();
    let lab = Lab::builder()
        .host(
            HostSpec::new("a")
                .behind(NatSpec::port_preserving())
                .link(LinkSpec::delay(Duration::from_millis(20))),
        )
        .host(HostSpec::new("b").link(LinkSpec::delay(Duration::from_millis(20))))
        .build()?;
    println!("up {:?}", t.elapsed());
    let (a, b) = (lab.host("a"), lab.host("b"));
    let t = Instant::now();
    let l = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap())?;
    println!("run {:?}", t.elapsed());
    let t = Instant::now();
    let r =
        a.run(|| TcpStream::connect_timeout(&(b.ipv4(), 1).into(), Duration::from_millis(500)))?;
    println!("connect {:?} {:?}", t.elapsed(), r);
    println!(
        "{}",
        String::from_utf8_lossy(&a.command("ip").args(["a"]).output().unwrap().stdout)
    );
    println!(
        "{}",
        String::from_utf8_lossy(&a.command("ip").args(["r"]).output().unwrap().stdout)
    );
    println!("nat {:?}", lab.nat("a", 0).mappings());
    for p in lab.capture().packets() {
        println!("{p:?}");
    }
    let t = Instant::now();
    if std::env::var_os("HOLD").is_some() {
        std::thread::sleep(Duration::from_secs(15));
    }
    drop(lab);
    println!("down {:?}", t.elapsed());
    Ok(ExitCode::SUCCESS)
}
