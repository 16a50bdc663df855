use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use super::*;
use crate::load::Load;

const TOPIC: &str = "HEADWATER_TEST_TOPIC";
const INSTANCE: &str = "HEADWATER_TEST_INSTANCE";

/// Not a test by itself: the process that the next test kills. It says what it has done and how many partitions its
/// metric shows.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the process that started this one reads it")]
async fn member_of_another_process() {
    let (Ok(topic), Ok(instance)) = (std::env::var(TOPIC), std::env::var(INSTANCE)) else { return };
    metrics();
    let (stage, log) = (Stage::of(brokers(), &topic), Log::default());
    let _member = stage.member(&instance, &log);
    let (mut said, mut ticks) = (0, interval(Duration::from_millis(20)));
    loop {
        ticks.tick().await;
        let all = log.all();
        for item in &all[said..] {
            println!("did {item}");
        }
        said = all.len();
        println!("owns {}", owned(&stage, &instance));
    }
}

struct Process {
    child: Child,
    owns: Arc<Mutex<String>>,
}

impl Process {
    fn start(stage: &Stage, instance: &str, log: &Log) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "members::member_of_another_process", "--nocapture"])
            .env(TOPIC, stage.group.topic.name)
            .env(INSTANCE, instance)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdout, owns) = (child.stdout.take().unwrap(), Arc::<Mutex<String>>::default());
        let (log, shown) = (log.clone(), owns.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(item) = line.strip_prefix("did ") {
                    log.0.lock().unwrap().push(item.to_owned());
                } else if let Some(count) = line.strip_prefix("owns ") {
                    count.clone_into(&mut shown.lock().unwrap());
                }
            }
        });
        Self { child, owns }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// (instance, partitions) of each member that the broker knows.
async fn members(stage: &Stage) -> Vec<(String, usize)> {
    let view = describe(&stage.kafka, stage.group.id, stage.group.topic.name).await.unwrap();
    let members = view.membership.into_iter().flat_map(|membership| membership.members);
    members.map(|member| (member.instance.unwrap_or_default(), member.partitions.len())).collect()
}

fn share(instances: &[&str], partitions: usize) -> Vec<(String, usize)> {
    instances.iter().map(|instance| ((*instance).to_owned(), partitions)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_killed_process_move_to_the_others_and_show_there() {
    let _whole = BROKER.read().await;
    let (stage, log) = (Stage::open().await, Log::default());
    let [one, two, three] = ["1", "2", "3"].map(|instance| Process::start(&stage, instance, &log));
    eventually("a third each", async || members(&stage).await, |seen| *seen == share(&["1", "2", "3"], 4)).await;
    let shown = |process: &Process| process.owns.lock().unwrap().clone();
    eventually("the metric shows it", async || shown(&three), |owns| owns == "4").await;
    let load = Load::start(&stage);
    eventually("records flow", async || log.distinct(), |distinct| *distinct > 500).await;

    let killed = Instant::now();
    drop(two); // kill -9
    eventually("half each", async || members(&stage).await, |seen| *seen == share(&["1", "3"], 6)).await;
    eprintln!("one of three killed: its partitions moved within {:.1?}", killed.elapsed());
    let both = async || (shown(&one), shown(&three));
    eventually("the metrics show it", both, |(one, three)| one == "6" && three == "6").await;

    let added = Process::start(&stage, "4", &log);
    eventually("a third each again", async || members(&stage).await, |seen| *seen == share(&["1", "3", "4"], 4)).await;
    eventually("the metric shows it", async || shown(&added), |owns| owns == "4").await;
    let total = load.stop().await;
    // what the killed one did and did not say is done again by others: nothing is missing
    eventually("everything is done", async || log.distinct(), |distinct| *distinct == total).await;
    eprintln!("one of three killed, one added: {total} records, {} twice", log.all().len() - total);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_owns_nothing_leaves_when_it_stops_and_keeps_nobody_waiting() {
    let _whole = BROKER.read().await;
    let (stage, log) = (Stage::with_partitions(1).await, Log::default());
    let first = stage.member("1", &log);
    eventually("it has the one partition", async || owned(&stage, "1"), |owned| *owned == 1.0).await;
    let second = stage.member("2", &log);
    let both = async || members(&stage).await.len();
    eventually("both are members", both, |members| *members == 2).await;
    stage.ready().await;
    let stopped = Instant::now();
    second.stop().await;
    eventually("the other is alone", both, |members| *members == 1).await;
    assert!(stopped.elapsed() < SESSION, "it was waited for until its session ended: {:?}", stopped.elapsed());
    first.stop().await;
}
