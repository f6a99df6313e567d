-------------------------------- MODULE Raft --------------------------------
(***************************************************************************)
(* Flotilla's Raft: elections with pre-votes, durability, joint            *)
(* configurations, snapshots, ReadIndex, and dead replicas replaced.       *)
(*                                                                         *)
(* Messages are not queues here but facts. Whatever a replica may say is   *)
(* remembered for ever from the moment it may be said, and anybody may     *)
(* hear it later, again, or never: so loss, repetition, delay and          *)
(* reordering need no actions of their own, and the state stays small.     *)
(* What depends on a disk becomes a fact only once it is on that disk.     *)
(*                                                                         *)
(* A log is kept whole, with the index of the snapshot beside it. A leader *)
(* may still send what its snapshot covers, as entries or as that.         *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Server,     \* the ids of all replicas that ever are, from 1
    Founders,   \* the voters of the founding configuration
    MaxTerm,    \* no replica enters a higher term
    MaxLog,     \* no leader appends beyond this index
    PreVotes,   \* whether a campaign has to be asked for first
    Crashes, Wipes, Changes, Snapshots, Reads, Transfers, \* how often, at most
    StatesMax   \* beyond so many distinct states nothing is looked at any more

\* Models that are about something else switch these off: followers that are loyal to a leader
\* they hear, and a leader's stepping down whenever it likes.
Stickiness == TRUE
Off == FALSE
Never(n) == FALSE

Nil == 0
Terms == 1..MaxTerm
Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b

VARIABLES
    \* What a replica has in memory.
    term, vote, log, base, commit,
    role,       \* "F" follower, "P" pre-candidate, "C" candidate, "L" leader
    leaderOf,   \* the leader it knows in its term
    loyal,      \* whether it heard that leader within an election timeout
    agreed,     \* its log agrees with that leader's up to here
    \* What it has on disk, and whether it forgot what it had there (P4).
    disk, dead,
    \* What was ever said, and may be heard.
    top,        \* the highest term that anybody ever entered
    pre,        \* <<from, term, candidate>>: it would vote
    asked,      \* [t, c, lt, li]: c asks for votes in t, its log ends so
    xfer,       \* terms in which the leader before asked for the campaign
    granted,    \* <<from, term, candidate>>: it has voted
    acked,      \* acked[n][t]: n has the log of t's leader on disk up to here
    led,        \* led[t]: who led t
    llog,       \* llog[t]: the log of t's leader, which only grows in t
    lcommit,    \* lcommit[t]: what t's leader has said to be committed
    \* What nobody knows.
    committed,  \* [e, by]: every committed entry, and the term of who did it
    read,       \* the read that is open
    left        \* what may still happen

memory == <<term, vote, log, base, commit, role, leaderOf, loyal, agreed>>
leaders == <<led, llog, lcommit>>
vars == <<memory, disk, dead, top, pre, asked, xfer, granted, acked, leaders,
          committed, read, left>>

-----------------------------------------------------------------------------
(* Logs and configurations *)

NoConf == [v |-> {}, o |-> {}, l |-> {}]
Founding == [v |-> Founders, o |-> {}, l |-> {}]

Entry(t, c) == [t |-> t, c |-> c]
TermAt(l, i) == IF i = 0 THEN 0 ELSE l[i].t
LastTerm(l) == TermAt(l, Len(l))
Members(c) == c.v \cup c.o \cup c.l

ConfIndexes(l) == {i \in 1..Len(l) : l[i].c # NoConf}
ConfIndex(l) == LET s == ConfIndexes(l) IN
    IF s = {} THEN 0 ELSE CHOOSE i \in s : \A j \in s : j <= i
Conf(l) == IF ConfIndex(l) = 0 THEN Founding ELSE l[ConfIndex(l)].c
Confs(l) == {l[i].c : i \in ConfIndexes(l)} \cup {Founding}
Ever(l) == UNION {Members(c) : c \in Confs(l)}

Majority(s, v) == 2 * Cardinality(s \cap v) > Cardinality(v)
Quorum(c, s) == Majority(s, c.v) /\ (c.o = {} \/ Majority(s, c.o))

UpToDate(lt, li, l) == lt > LastTerm(l) \/ (lt = LastTerm(l) /\ li >= Len(l))

\* Its removal may be known to it, but not that it is committed.
Electable(n) ==
    \/ n \in Members(Conf(log[n])) \ Conf(log[n]).l
    \/ \E i \in commit[n]..Len(log[n]) :
           LET c == Conf(SubSeq(log[n], 1, i)) IN n \in c.v \cup c.o

Mem(n) == [term |-> term[n], vote |-> vote[n], log |-> log[n], base |-> base[n]]
Blank == [term |-> 0, vote |-> Nil, log |-> <<>>, base |-> 0]

\* The longest prefix that two logs share.
Common(a, b) ==
    LET m == Min(Len(a), Len(b))
        d == {i \in 1..m : a[i] # b[i]}
    IN  IF a = b THEN Len(a) ELSE IF d = {} THEN m
        ELSE (CHOOSE i \in d : \A j \in d : i <= j) - 1

-----------------------------------------------------------------------------
Init ==
    /\ term = [n \in Server |-> 0]
    /\ vote = [n \in Server |-> Nil]
    /\ log = [n \in Server |-> <<>>]
    /\ base = [n \in Server |-> 0]
    /\ commit = [n \in Server |-> 0]
    /\ role = [n \in Server |-> "F"]
    /\ leaderOf = [n \in Server |-> Nil]
    /\ loyal = [n \in Server |-> FALSE]
    /\ agreed = [n \in Server |-> 0]
    /\ disk = [n \in Server |-> Blank]
    /\ dead = {}
    /\ top = 0
    /\ pre = {}
    /\ asked = {}
    /\ xfer = {}
    /\ granted = {}
    /\ acked = [n \in Server |-> [t \in Terms |-> 0]]
    /\ led = [t \in Terms |-> {}]
    /\ llog = [t \in Terms |-> <<>>]
    /\ lcommit = [t \in Terms |-> 0]
    /\ committed = <<>>
    /\ read = [st |-> "none"]
    /\ left = [crashes |-> Crashes, wipes |-> Wipes, changes |-> Changes,
               snapshots |-> Snapshots, reads |-> Reads, transfers |-> Transfers]

\* The same, but 1 leads term 1 by its own vote and that of 2, which is where most of what can go
\* wrong begins: a search from here comes five actions further. That it is reached is checked.
InitLed ==
    LET voted == [term |-> 1, vote |-> 1, log |-> <<>>, base |-> 0] IN
    /\ term = [n \in Server |-> IF n \in {1, 2} THEN 1 ELSE 0]
    /\ vote = [n \in Server |-> IF n \in {1, 2} THEN 1 ELSE Nil]
    /\ log = [n \in Server |-> <<>>]
    /\ base = [n \in Server |-> 0]
    /\ commit = [n \in Server |-> 0]
    /\ role = [n \in Server |-> IF n = 1 THEN "L" ELSE "F"]
    /\ leaderOf = [n \in Server |-> IF n = 1 THEN 1 ELSE Nil]
    /\ loyal = [n \in Server |-> FALSE]
    /\ agreed = [n \in Server |-> 0]
    /\ disk = [n \in Server |-> IF n \in {1, 2} THEN voted ELSE Blank]
    /\ dead = {}
    /\ top = 1
    /\ pre = IF PreVotes THEN {<<2, 1, 1>>} ELSE {}
    /\ asked = {[t |-> 1, c |-> 1, lt |-> 0, li |-> 0]}
    /\ xfer = {}
    /\ granted = {<<1, 1, 1>>, <<2, 1, 1>>}
    /\ acked = [n \in Server |-> [t \in Terms |-> 0]]
    /\ led = [t \in Terms |-> IF t = 1 THEN {1} ELSE {}]
    /\ llog = [t \in Terms |-> <<>>]
    /\ lcommit = [t \in Terms |-> 0]
    /\ committed = <<>>
    /\ read = [st |-> "none"]
    /\ left = [crashes |-> Crashes, wipes |-> Wipes, changes |-> Changes,
               snapshots |-> Snapshots, reads |-> Reads, transfers |-> Transfers]

\* What is asked and granted on the way to the state below.
RivalsAsked == {[t |-> 1, c |-> 1, lt |-> 0, li |-> 0], [t |-> 2, c |-> 3, lt |-> 0, li |-> 0],
                [t |-> 3, c |-> 1, lt |-> 1, li |-> 1]}
RivalsGranted == {<<1, 1, 1>>, <<2, 1, 1>>, <<3, 2, 3>>, <<2, 2, 3>>, <<1, 3, 1>>, <<2, 3, 1>>}

\* Figure 8 of the paper, at (c): 1 leads again, in term 3, with an entry of term 1 that nobody else
\* has, and 3, which led term 2, has another one in its place. That it is reached is checked.
InitRivals ==
    LET e1 == Entry(1, NoConf)
        e2 == Entry(2, NoConf)
        has == << <<e1>>, <<>>, <<e2>> >>
        at == <<3, 3, 2>>
        for == <<1, 1, 3>>
    IN
    /\ term = at
    /\ vote = for
    /\ log = has
    /\ base = [n \in Server |-> 0]
    /\ commit = [n \in Server |-> 0]
    /\ role = <<"L", "F", "L">>
    /\ leaderOf = <<1, Nil, 3>>
    /\ loyal = [n \in Server |-> FALSE]
    /\ agreed = [n \in Server |-> 0]
    /\ disk = [n \in Server |-> [term |-> at[n], vote |-> for[n], log |-> has[n], base |-> 0]]
    /\ dead = {}
    /\ top = 3
    /\ pre = {}
    /\ asked = RivalsAsked
    /\ xfer = {}
    /\ granted = RivalsGranted
    /\ acked = [n \in Server |-> [t \in Terms |-> 0]]
    /\ led = [t \in Terms |-> CASE t \in {1, 3} -> {1} [] t = 2 -> {3} [] OTHER -> {}]
    /\ llog = [t \in Terms |-> CASE t \in {1, 3} -> <<e1>> [] t = 2 -> <<e2>> [] OTHER -> <<>>]
    /\ lcommit = [t \in Terms |-> 0]
    /\ committed = <<>>
    /\ read = [st |-> "none"]
    /\ left = [crashes |-> Crashes, wipes |-> Wipes, changes |-> Changes,
               snapshots |-> Snapshots, reads |-> Reads, transfers |-> Transfers]

-----------------------------------------------------------------------------
(* What n may say after a step of its own: a vote, and a campaign's question, once term and vote *)
(* are on disk; that a log agrees with the leader's, as far as it is on disk, in a term that is.  *)
(* Nobody else has more to say than before, since a step changes no other memory and no other     *)
(* disk.                                                                                          *)

Holds(n) == disk'[n].term = term'[n] /\ disk'[n].vote = vote'[n]

Says(n) ==
    LET speaks == n \notin dead' IN
    /\ granted' = IF speaks /\ vote'[n] # Nil /\ Holds(n)
                  THEN granted \cup {<<n, term'[n], vote'[n]>>} ELSE granted
    /\ asked' = IF speaks /\ role'[n] = "C" /\ Holds(n)
                THEN asked \cup {[t |-> term'[n], c |-> n,
                                 lt |-> LastTerm(log'[n]), li |-> Len(log'[n])]}
                ELSE asked
    /\ acked' = IF speaks /\ role'[n] = "F" /\ leaderOf'[n] # Nil /\ term'[n] = disk'[n].term
                THEN [acked EXCEPT ![n][term'[n]] = Max(@,
                         Min(Max(agreed'[n], commit'[n]), Common(log'[n], disk'[n].log)))]
                ELSE acked

-----------------------------------------------------------------------------
(* Elections *)

\* Nobody led for an election timeout.
Timeout(n) ==
    /\ PreVotes /\ role[n] \in {"F", "C"} /\ Electable(n)
    /\ role' = [role EXCEPT ![n] = "P"]
    /\ leaderOf' = [leaderOf EXCEPT ![n] = Nil]
    /\ loyal' = [loyal EXCEPT ![n] = FALSE]
    /\ agreed' = [agreed EXCEPT ![n] = 0]
    /\ UNCHANGED <<term, vote, log, base, commit, disk, dead, top, pre, xfer, leaders,
                   committed, read, left>>

\* m would vote for n; that promises nothing, so no disk is waited for.
GrantPre(m, n) ==
    LET t == term[n] + 1 IN
    /\ role[n] = "P" /\ m # n /\ t <= MaxTerm /\ <<m, t, n>> \notin pre
    /\ role[m] # "L" /\ ~loyal[m]
    /\ t > term[m] \/ (t = term[m] /\ vote[m] \in {Nil, n})
    /\ UpToDate(LastTerm(log[n]), Len(log[n]), log[m])
    /\ pre' = pre \cup {<<m, t, n>>}
    /\ UNCHANGED <<memory, disk, dead, top, xfer, leaders, committed, read, left>>

BecomeCandidate(n) ==
    /\ term[n] < MaxTerm
    /\ term' = [term EXCEPT ![n] = @ + 1]
    /\ vote' = [vote EXCEPT ![n] = n]
    /\ role' = [role EXCEPT ![n] = "C"]
    /\ leaderOf' = [leaderOf EXCEPT ![n] = Nil]
    /\ loyal' = [loyal EXCEPT ![n] = FALSE]
    /\ agreed' = [agreed EXCEPT ![n] = 0]
    /\ top' = Max(top, term[n] + 1)

PreQuorum(n, t) == Quorum(Conf(log[n]), {n} \cup {m \in Server : <<m, t, n>> \in pre})

Campaign(n) ==
    /\ role[n] # "L" /\ Electable(n)
    /\ PreVotes => role[n] = "P" /\ PreQuorum(n, term[n] + 1)
    /\ BecomeCandidate(n)
    /\ UNCHANGED <<log, base, commit, disk, dead, pre, xfer, leaders, committed, read, left>>

\* The leader, who knows that n has its whole log, asks n to take over [Thesis 3.10].
TakeOver(n) ==
    /\ left.transfers > 0 /\ role[n] = "F" /\ leaderOf[n] # Nil /\ Electable(n)
    /\ acked[n][term[n]] = Len(llog[term[n]])
    /\ BecomeCandidate(n)
    /\ xfer' = xfer \cup {term[n] + 1}
    /\ left' = [left EXCEPT !.transfers = @ - 1]
    /\ UNCHANGED <<log, base, commit, disk, dead, pre, leaders, committed, read>>

EnterTerm(m, t, v) ==
    /\ term' = [term EXCEPT ![m] = t]
    /\ vote' = [vote EXCEPT ![m] = v]
    /\ role' = [role EXCEPT ![m] = "F"]
    /\ leaderOf' = [leaderOf EXCEPT ![m] = Nil]
    /\ loyal' = [loyal EXCEPT ![m] = FALSE]
    /\ agreed' = [agreed EXCEPT ![m] = 0]

\* One vote a term, for a log that is not behind, and not while a leader lives [Raft 5.2, 5.4.1].
VoteFor(m, a) ==
    /\ m # a.c
    /\ a.t > term[m] \/ (a.t = term[m] /\ vote[m] = Nil /\ leaderOf[m] = Nil)
    /\ UpToDate(a.lt, a.li, log[m])
    /\ EnterTerm(m, a.t, a.c)
    /\ UNCHANGED <<log, base, commit, disk, dead, top, pre, xfer, leaders, committed, read, left>>

Vote(m, a) ==
    /\ a.t \in xfer \/ (role[m] # "L" /\ ~loyal[m])
    /\ VoteFor(m, a)

\* Somebody in a later term was heard.
SeeTerm(m, t) ==
    /\ term[m] < t /\ t <= top
    /\ EnterTerm(m, t, Nil)
    /\ UNCHANGED <<log, base, commit, disk, dead, top, pre, xfer, leaders, committed, read, left>>

Voters(n) == {m \in Server : <<m, term[n], n>> \in granted}

Win(n) ==
    /\ role[n] = "C" /\ n \in Voters(n) /\ Quorum(Conf(log[n]), Voters(n))
    /\ role' = [role EXCEPT ![n] = "L"]
    /\ leaderOf' = [leaderOf EXCEPT ![n] = n]
    /\ led' = [led EXCEPT ![term[n]] = @ \cup {n}]
    /\ llog' = [llog EXCEPT ![term[n]] = log[n]]
    /\ lcommit' = [lcommit EXCEPT ![term[n]] = commit[n]]
    /\ UNCHANGED <<term, vote, log, base, commit, loyal, agreed, disk, dead, top, pre, xfer,
                   committed, read, left>>

\* Time passes, and the leader was not heard.
Lapse(n) ==
    /\ loyal[n]
    /\ loyal' = [loyal EXCEPT ![n] = FALSE]
    /\ UNCHANGED <<term, vote, log, base, commit, role, leaderOf, agreed, disk, dead, top, pre,
                   xfer, leaders, committed, read, left>>

\* No quorum answered for an election timeout.
StepDown(n) ==
    /\ role[n] = "L"
    /\ role' = [role EXCEPT ![n] = "F"]
    /\ leaderOf' = [leaderOf EXCEPT ![n] = Nil]
    /\ agreed' = [agreed EXCEPT ![n] = 0]
    /\ UNCHANGED <<term, vote, log, base, commit, loyal, disk, dead, top, pre, xfer, leaders,
                   committed, read, left>>

-----------------------------------------------------------------------------
(* Replication *)

AppendOwn(n, es) ==
    /\ role[n] = "L"
    /\ log' = [log EXCEPT ![n] = @ \o es]
    /\ llog' = [llog EXCEPT ![term[n]] = log[n] \o es]
    /\ UNCHANGED <<term, vote, base, commit, role, leaderOf, loyal, agreed, disk, dead, top, pre,
                   xfer, led, lcommit, committed, read>>

Propose(n) ==
    /\ Len(log[n]) < MaxLog
    /\ AppendOwn(n, <<Entry(term[n], NoConf)>>)
    /\ UNCHANGED left

\* The leader of t has sent its log up to j, from behind a place where m's log is the same.
Fits(m, t, p) == IF p <= commit[m] THEN TRUE ELSE log[m][p].t = llog[t][p].t

ReceiveFrom(m, t, p, j) ==
    LET l == llog[t]
        differs == \E i \in 1..Min(j, Len(log[m])) : log[m][i] # l[i]
    IN
    /\ led[t] # {} /\ m \notin led[t] /\ term[m] <= t
    /\ p \in 0..Min(j, Len(log[m])) /\ Fits(m, t, p)
    /\ log' = [log EXCEPT ![m] =
           IF differs \/ j > Len(log[m]) THEN SubSeq(log[m], 1, p) \o SubSeq(l, p + 1, j) ELSE @]
    /\ term' = [term EXCEPT ![m] = t]
    /\ vote' = [vote EXCEPT ![m] = IF t > term[m] THEN Nil ELSE @]
    /\ role' = [role EXCEPT ![m] = "F"]
    /\ leaderOf' = [leaderOf EXCEPT ![m] = CHOOSE n \in led[t] : TRUE]
    /\ loyal' = [loyal EXCEPT ![m] = Stickiness]
    /\ agreed' = [agreed EXCEPT ![m] =
           Max(IF t = term[m] /\ leaderOf[m] # Nil THEN @ ELSE 0, j)]
    /\ UNCHANGED <<base, commit, disk, dead, top, pre, xfer, leaders, committed, read, left>>

\* From the last place that fits: an earlier one would come to the same.
Receive(m, t, j) ==
    LET fit == {p \in 0..Min(j, Len(log[m])) : Fits(m, t, p)} IN
    /\ led[t] # {} /\ m \in Ever(llog[t]) /\ j <= Len(llog[t]) /\ fit # {}
    /\ ReceiveFrom(m, t, CHOOSE p \in fit : \A q \in fit : q <= p, j)

\* The leader's own disk counts like any other.
Acks(n, t, i) ==
    {m \in Server : IF m = n THEN Common(log[n], disk[n].log) >= i ELSE acked[m][t] >= i}

CommitAs(n, t, i) ==
    /\ commit[n] < i /\ i <= Len(llog[t]) /\ i <= Len(log[n])
    /\ llog[t][i].t = t
    /\ Quorum(Conf(llog[t]), Acks(n, t, i))
    /\ commit' = [commit EXCEPT ![n] = i]
    /\ lcommit' = [lcommit EXCEPT ![t] = i]
    /\ committed' = committed \o
           [k \in 1..(Max(i, Len(committed)) - Len(committed)) |->
               [e |-> log[n][Len(committed) + k], by |-> t]]
    /\ UNCHANGED <<term, vote, log, base, role, leaderOf, loyal, agreed, disk, dead, top, pre,
                   xfer, led, llog, read, left>>

Commit(n, i) == role[n] = "L" /\ CommitAs(n, term[n], i)

\* A follower is told of what is committed, and has it.
Learn(m, i) ==
    /\ role[m] = "F" /\ leaderOf[m] # Nil
    /\ commit[m] < i /\ i <= Min(lcommit[term[m]], agreed[m])
    /\ commit' = [commit EXCEPT ![m] = i]
    /\ UNCHANGED <<term, vote, log, base, role, leaderOf, loyal, agreed, disk, dead, top, pre,
                   xfer, leaders, committed, read, left>>

-----------------------------------------------------------------------------
(* Snapshots *)

Snapshot(n, i) ==
    /\ base[n] < i /\ i <= commit[n]
    /\ base' = [base EXCEPT ![n] = i]
    /\ UNCHANGED <<term, vote, log, commit, role, leaderOf, loyal, agreed, disk, dead, top, pre,
                   xfer, leaders, committed, read>>

\* The snapshot of t's leader is durable at m, and is of more than m knows to be committed. A log
\* that contains it is kept.
Install(m, t, i) ==
    LET has == i <= Len(log[m]) /\ log[m][i].t = llog[t][i].t IN
    /\ led[t] # {} /\ m \notin led[t] /\ term[m] <= t
    /\ i <= lcommit[t] /\ commit[m] < i
    /\ log' = [log EXCEPT ![m] = IF has THEN @ ELSE SubSeq(llog[t], 1, i)]
    /\ base' = [base EXCEPT ![m] = IF has THEN @ ELSE i]
    /\ commit' = [commit EXCEPT ![m] = i]
    /\ term' = [term EXCEPT ![m] = t]
    /\ vote' = [vote EXCEPT ![m] = IF t > term[m] THEN Nil ELSE @]
    /\ role' = [role EXCEPT ![m] = "F"]
    /\ leaderOf' = [leaderOf EXCEPT ![m] = CHOOSE n \in led[t] : TRUE]
    /\ loyal' = [loyal EXCEPT ![m] = @ /\ t = term[m]]
    /\ agreed' = [agreed EXCEPT ![m] =
           Max(IF t = term[m] /\ leaderOf[m] # Nil THEN @ ELSE 0, i)]
    /\ UNCHANGED <<disk, dead, top, pre, xfer, leaders, committed, read, left>>

-----------------------------------------------------------------------------
(* Configurations *)

\* One at a time, and none before an entry of the own term is committed.
MayChange(n) ==
    /\ role[n] = "L"
    /\ TermAt(log[n], commit[n]) = term[n]
    /\ ConfIndex(log[n]) <= commit[n]

\* Whose majority counts besides that of the new voters.
Outgoing(c) == c.v

\* A joint configuration is left; a plain one gets a learner, or becomes joint with voters that
\* listen already. An id is never used twice.
Next1(l, c, d) ==
    \/ c.o # {} /\ d = [v |-> c.v, o |-> {}, l |-> c.l]
    \/ /\ c.o = {} /\ d.o = {} /\ d.v = c.v
       /\ \A s \in d.l \ c.l : \A u \in Ever(l) : u < s
    \/ c.o = {} /\ d.o = Outgoing(c) /\ d.v # c.v /\ d.v # {} /\ d.v \subseteq Members(c)
       /\ d.l = c.l \ d.v

Change(n, d) ==
    /\ MayChange(n) /\ Next1(log[n], Conf(log[n]), d)
    /\ AppendOwn(n, <<Entry(term[n], d)>>)

\* What the model tries: a learner; then one voter for another, or one more, or one less.
Wanted(l, c) ==
    IF c.o # {} THEN {[v |-> c.v, o |-> {}, l |-> c.l]}
    ELSE {[v |-> c.v, o |-> {}, l |-> c.l \cup {s}] : s \in Server \ Ever(l)}
         \cup {[v |-> (c.v \ gone) \cup come, o |-> Outgoing(c), l |-> c.l \ come] :
               gone \in {{}} \cup {{s} : s \in c.v}, come \in {{}} \cup {{s} : s \in c.l}}

Reconfigure(n) ==
    /\ role[n] = "L" /\ Len(log[n]) < MaxLog
    /\ \E d \in Wanted(log[n], Conf(log[n])) :
           /\ Change(n, d)
           /\ IF Conf(log[n]).o # {} THEN UNCHANGED left
              ELSE left.changes > 0 /\ left' = [left EXCEPT !.changes = @ - 1]

-----------------------------------------------------------------------------
(* Disks *)

\* The disk has what memory had at some moment since.
SyncTo(n, image) ==
    /\ disk' = [disk EXCEPT ![n] = image]
    /\ UNCHANGED <<memory, dead, top, pre, xfer, leaders, committed, read, left>>

Sync(n) == disk[n] # Mem(n) /\ SyncTo(n, Mem(n))

\* A replica comes up with what its disk has.
Restart(n, image) ==
    /\ term' = [term EXCEPT ![n] = image.term]
    /\ vote' = [vote EXCEPT ![n] = image.vote]
    /\ log' = [log EXCEPT ![n] = image.log]
    /\ base' = [base EXCEPT ![n] = image.base]
    /\ commit' = [commit EXCEPT ![n] = image.base]
    /\ role' = [role EXCEPT ![n] = "F"]
    /\ leaderOf' = [leaderOf EXCEPT ![n] = Nil]
    /\ loyal' = [loyal EXCEPT ![n] = FALSE]
    /\ agreed' = [agreed EXCEPT ![n] = 0]
    /\ disk' = [disk EXCEPT ![n] = image]
    /\ UNCHANGED <<dead, top, pre, xfer, leaders, committed, read>>

Crash(n) ==
    /\ left.crashes > 0 /\ left' = [left EXCEPT !.crashes = @ - 1]
    /\ Restart(n, disk[n])

\* A disk is blank again: what it promised is forgotten, so this replica takes part in nothing
\* any more (P4). Its place is taken by another id, through the configuration.
Wipe(n) ==
    /\ left.wipes > 0 /\ left' = [left EXCEPT !.wipes = @ - 1]
    /\ dead' = dead \cup {n}
    /\ term' = [term EXCEPT ![n] = 0]
    /\ vote' = [vote EXCEPT ![n] = Nil]
    /\ log' = [log EXCEPT ![n] = <<>>]
    /\ base' = [base EXCEPT ![n] = 0]
    /\ commit' = [commit EXCEPT ![n] = 0]
    /\ role' = [role EXCEPT ![n] = "F"]
    /\ leaderOf' = [leaderOf EXCEPT ![n] = Nil]
    /\ loyal' = [loyal EXCEPT ![n] = FALSE]
    /\ agreed' = [agreed EXCEPT ![n] = 0]
    /\ disk' = [disk EXCEPT ![n] = Blank]
    /\ UNCHANGED <<top, pre, xfer, leaders, committed, read>>

-----------------------------------------------------------------------------
(* Reads *)

NoMemory == UNCHANGED <<memory, disk, dead, top, pre, xfer, leaders, committed>>

Idle == IF read.st \in {"none", "done"} THEN TRUE
        ELSE role[read.n] # "L" \/ term[read.n] # read.t

AskRead(n) ==
    /\ left.reads > 0 /\ role[n] = "L" /\ Idle
    /\ left' = [left EXCEPT !.reads = @ - 1]
    /\ read' = [st |-> "wait", n |-> n, t |-> term[n], floor |-> Len(committed), index |-> 0,
                acks |-> {}]
    /\ NoMemory

\* A round begins after the read came, and after an entry of the term is committed.
BeginRound ==
    /\ read.st = "wait" /\ ~Idle
    /\ TermAt(log[read.n], commit[read.n]) = read.t
    /\ read' = [read EXCEPT !.st = "open", !.index = commit[read.n], !.acks = {read.n}]
    /\ UNCHANGED left /\ NoMemory

AnswerRound(m) ==
    /\ read.st = "open" /\ m \notin read.acks
    /\ term[m] = read.t /\ leaderOf[m] = read.n
    /\ read' = [read EXCEPT !.acks = @ \cup {m}]
    /\ UNCHANGED left /\ NoMemory

EndRound ==
    /\ read.st = "open" /\ ~Idle
    /\ Quorum(Conf(log[read.n]), read.acks)
    /\ read' = [read EXCEPT !.st = "done"]
    /\ UNCHANGED left /\ NoMemory

-----------------------------------------------------------------------------
Act(n) ==
    \/ Timeout(n)
    \/ PreVotes /\ \E m \in Server \ dead : GrantPre(m, n)
    \/ Campaign(n)
    \/ TakeOver(n)
    \/ \E a \in asked : Vote(n, a)
    \/ \E t \in Terms : SeeTerm(n, t)
    \/ Win(n)
    \/ Lapse(n)
    \/ StepDown(n)
    \/ Propose(n)
    \/ \E t \in Terms : \E j \in 0..Len(llog[t]) : Receive(n, t, j)
    \/ \E i \in 1..Len(log[n]) : Commit(n, i)
    \/ role[n] = "F" /\ leaderOf[n] # Nil /\ Learn(n, Min(lcommit[term[n]], agreed[n]))
    \/ left.snapshots > 0 /\ left' = [left EXCEPT !.snapshots = @ - 1] /\ Snapshot(n, commit[n])
    \/ \E t \in Terms : \E m \in led[t] : base[m] > 0 /\ Install(n, t, base[m])
    \/ Reconfigure(n)
    \/ Sync(n)
    \/ Crash(n)
    \/ Wipe(n)
    \/ AskRead(n)
    \/ AnswerRound(n)

Next == (\E n \in Server \ dead : Act(n) /\ Says(n))
        \/ ((BeginRound \/ EndRound) /\ UNCHANGED <<granted, asked, acked>>)

Spec == Init /\ [][Next]_vars
LedSpec == InitLed /\ [][Next]_vars
RivalsSpec == InitRivals /\ [][Next]_vars

\* States come breadth first: what is left out is further away than all that was seen.
\* Each of TLC's workers asks how many they are once in a while, since asking is dear.
ASSUME TLCSet(1, 0) /\ TLCSet(2, FALSE)
Bounded ==
    /\ TLCSet(1, (TLCGet(1) + 1) % 1000)
    /\ IF TLCGet(1) = 0 THEN TLCSet(2, TLCGet("distinct") >= StatesMax) ELSE TRUE
    /\ ~TLCGet(2)

\* Where it is terms and logs that matter, a disk is written before anything else happens.
AtOnce == (\A n \in Server : disk[n] = Mem(n)) \/ disk' # disk

\* Broken by any way from Init to InitLed: `cargo xtask spec` sees it broken.
NeverLed == ~InitLed

\* The same of InitRivals, from InitLed on; only what may be on the way there is looked at.
NeverRivals == ~InitRivals
TowardRivals == asked \subseteq RivalsAsked /\ granted \subseteq RivalsGranted
                /\ \A n \in Server : \A t \in Terms : acked[n][t] = 0

-----------------------------------------------------------------------------
(* What holds in every state *)

ElectionSafety == \A t \in Terms : Cardinality(led[t]) <= 1

LogMatching ==
    \A a, b \in Server : a < b =>
        LET same == {i \in 1..Min(Len(log[a]), Len(log[b])) : log[a][i].t = log[b][i].t}
        IN  \A i \in same : Common(log[a], log[b]) >= i

Entries(s) == [i \in 1..Len(s) |-> s[i].e]

\* Every replica has committed a prefix of one and the same log.
StateMachineSafety ==
    \A n \in Server :
        /\ commit[n] <= Len(log[n]) /\ commit[n] <= Len(committed)
        /\ \A i \in 1..commit[n] : log[n][i] = committed[i].e

\* What is committed is on the disks of a majority, and stays there.
CommittedIsDurable ==
    Changes = 0 /\ Wipes = 0 => \A i \in 1..Len(committed) :
        LET has == {n \in Server : Len(disk[n].log) >= i /\ disk[n].log[i] = committed[i].e}
        IN  Majority(has, Founders)

\* A leader has all that was committed in the terms before its own.
LeaderCompleteness ==
    \A n \in Server : role[n] = "L" =>
        \A i \in 1..Len(committed) : committed[i].by < term[n] =>
            i <= Len(log[n]) /\ log[n][i] = committed[i].e

LeaderAppendOnly == \A n \in Server : role[n] = "L" => log[n] = llog[term[n]]

\* What is below a snapshot is committed, in memory and on disk.
SnapshotsAreCommitted ==
    \A n \in Server : base[n] <= commit[n] /\ disk[n].base <= Len(committed)

\* Nobody disturbs a term without a quorum's word that it would help.
PreVoted ==
    PreVotes => \A n \in Server : role[n] = "C" /\ term[n] \notin xfer => PreQuorum(n, term[n])

\* Of the changes that a leader has, it may not know yet which are committed.
OneChangeAtATime ==
    \A n \in Server : role[n] = "L" =>
        Cardinality({i \in ConfIndexes(log[n]) : i > Len(committed)}) <= 1

\* A read sees all that was committed before it was asked for.
ReadsAreLinearizable == read.st = "done" => read.index >= read.floor

\* No ack promises more than what the disk has had.
AcksAreTrue ==
    \A n \in Server \ dead : \A t \in Terms :
        acked[n][t] > 0 /\ term[n] = t /\ disk[n].term = t =>
            acked[n][t] <= Len(disk[n].log)
=============================================================================
