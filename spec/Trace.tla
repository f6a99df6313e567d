------------------------------- MODULE Trace --------------------------------
(***************************************************************************)
(* Traces of the simulator against the specification: each event is one    *)
(* action of Raft.tla with everything about it given, so a trace is        *)
(* allowed exactly when it can be walked to its end. All traces are walked *)
(* in one run of TLC, each from an initial state of its own; a trace says  *)
(* that it came to its end by printing its number.                         *)
(*                                                                         *)
(* Not in a trace, and so taken to have happened where it may have:        *)
(*  - pre-votes, silences, hand-overs, a rest, all before a campaign;       *)
(*  - messages. A heartbeat changes nothing on disk, so a follower of a    *)
(*    term that has a leader is taken to have heard it, and to say of its  *)
(*    log what is true.                                                    *)
(* Writes are made durable later than asked for, one after the other, so   *)
(* what memory was at each of them waits in a queue.                       *)
(***************************************************************************)
EXTENDS Raft, TraceData

VARIABLES
    number,     \* which trace
    place,      \* which event of it is next
    queue       \* queue[n]: [q, m], what memory was at each write not known to be durable

E == Traces[number][place]

TraceInit ==
    /\ Init
    /\ number \in 1..Len(Traces)
    /\ place = 1
    /\ queue = [n \in Server |-> <<>>]

-----------------------------------------------------------------------------
(* What may be said, as Says has it, but that a follower is taken to have heard its leader. *)

TraceAcked(m) ==
    LET t == term'[m] IN
    IF t = 0 THEN acked[m]
    ELSE IF t # disk'[m].term \/ led'[t] = {} \/ m \in led'[t] THEN acked[m]
    ELSE [acked[m] EXCEPT ![t] =
             Max(@, Min(Common(log'[m], llog'[t]), Common(log'[m], disk'[m].log)))]

TraceSays ==
    LET n == E.n
        heard == {n} \cup (IF role'[n] = "L" THEN Server ELSE {})
    IN
    /\ granted' = IF vote'[n] # Nil /\ Holds(n) THEN granted \cup {<<n, term'[n], vote'[n]>>}
                  ELSE granted
    /\ asked' = IF role'[n] = "C" /\ Holds(n)
                THEN asked \cup {[t |-> term'[n], c |-> n, lt |-> LastTerm(log'[n]),
                                  li |-> Len(log'[n])]}
                ELSE asked
    /\ acked' = [m \in Server |-> IF m \in heard THEN TraceAcked(m) ELSE acked[m]]

-----------------------------------------------------------------------------
(* Events *)

Wrote == queue' = [queue EXCEPT ![E.n] =
    Append(@, [q |-> E.q, m |-> [term |-> term'[E.n], vote |-> vote'[E.n], log |-> log'[E.n],
                                 base |-> base'[E.n]]])]

Quiet == UNCHANGED queue

\* A term was entered by hearing of it; by a campaign; with a vote for another.
Enters == E.k = "enter" /\ SeeTerm(E.n, E.t) /\ Wrote

Campaigns ==
    /\ E.k = "campaign" /\ E.t = term[E.n] + 1
    /\ Electable(E.n)
    /\ BecomeCandidate(E.n)
    /\ UNCHANGED <<log, base, commit, disk, dead, pre, xfer, leaders, committed, read, left>>
    /\ Wrote

Votes ==
    /\ E.k = "vote"
    /\ \E a \in asked : a.t = E.t /\ a.c = E.v /\ VoteFor(E.n, a)
    /\ Wrote

Leads == E.k = "lead" /\ term[E.n] = E.t /\ Win(E.n) /\ Quiet

Rests == E.k = "rest" /\ term[E.n] = E.t /\ StepDown(E.n) /\ Quiet

Proposes ==
    /\ E.k = "append" /\ role[E.n] = "L" /\ term[E.n] = E.t
    /\ E.i = Len(log[E.n]) + 1
    /\ \A j \in 1..Len(E.es) : E.es[j].t = E.t
    /\ IF Len(E.es) = 1 /\ E.es[1].c # NoConf THEN Change(E.n, E.es[1].c)
       ELSE (\A j \in 1..Len(E.es) : E.es[j].c = NoConf) /\ AppendOwn(E.n, E.es)
    /\ UNCHANGED left /\ Wrote

\* Only what the log lacks is written, and only an entry that conflicts cuts it off.
Receives ==
    LET p == E.i - 1
        j == p + Len(E.es)
        l == llog[E.t]
    IN
    /\ E.k = "append" /\ role[E.n] # "L" /\ E.t \in Terms /\ term[E.n] = E.t /\ E.i >= 1
    /\ p <= Len(log[E.n]) /\ j <= Len(l) /\ commit[E.n] <= p
    /\ E.es = SubSeq(l, E.i, j)
    /\ IF p = Len(log[E.n]) THEN TRUE ELSE log[E.n][E.i] # l[E.i]
    /\ ReceiveFrom(E.n, E.t, p, j)
    /\ log'[E.n] = SubSeq(l, 1, j)
    /\ Wrote

\* What a leader committed in a term that it led; or what a follower has been told.
Commits ==
    /\ E.k = "commit" /\ term[E.n] = E.t /\ Len(log[E.n]) = E.l
    /\ LET own == {t \in Terms : E.n \in led[t] /\ t <= E.t}
           t == IF own = {} THEN 0 ELSE CHOOSE t \in own : \A u \in own : u <= t
       IN  IF role[E.n] = "L" \/ (t # 0 /\ E.i > Len(committed))
           THEN CommitAs(E.n, t, E.i)
           ELSE /\ commit[E.n] < E.i /\ E.i <= Len(log[E.n])
                /\ \E u \in Terms : u <= E.t /\ led[u] # {} /\ E.i <= lcommit[u]
                /\ commit' = [commit EXCEPT ![E.n] = E.i]
                /\ UNCHANGED <<term, vote, log, base, role, leaderOf, loyal, agreed, disk, dead,
                               top, pre, xfer, leaders, committed, read, left>>
    /\ Quiet

Compacts ==
    /\ E.k = "snapshot" /\ E.i \in 1..commit[E.n]
    /\ log[E.n][E.i].t = E.it
    /\ Snapshot(E.n, E.i) /\ UNCHANGED left /\ Wrote

Installs ==
    /\ E.k = "install" /\ E.t \in Terms /\ term[E.n] = E.t /\ E.i \in 1..Len(llog[E.t])
    /\ llog[E.t][E.i].t = E.it
    /\ IF E.i <= Len(log[E.n]) THEN log[E.n][E.i].t # E.it ELSE TRUE
    /\ Install(E.n, E.t, E.i) /\ Wrote

\* Everything up to the write q is on disk, which is told in its own words.
Syncs ==
    LET due == {k \in 1..Len(queue[E.n]) : queue[E.n][k].q <= E.q}
        last == CHOOSE k \in due : \A j \in due : j <= k
        image == queue[E.n][last].m
    IN
    /\ E.k = "sync" /\ due # {} /\ queue[E.n][last].q = E.q
    /\ image.term = E.t /\ image.vote = E.v /\ image.base = E.b /\ Len(image.log) = E.l
    /\ SyncTo(E.n, image)
    /\ queue' = [queue EXCEPT ![E.n] = SubSeq(@, last + 1, Len(@))]

Is(image) ==
    /\ image.term = E.t /\ image.vote = E.v /\ image.base = E.b /\ Len(image.log) = E.l
    /\ SubSeq(image.log, E.b + 1, E.l) = E.es

\* A replica comes up: with what it is known to have had on disk, and perhaps some writes more.
Boots ==
    LET images == {disk[E.n]} \cup {queue[E.n][k].m : k \in 1..Len(queue[E.n])}
        fit == {image \in images : Is(image)}
    IN
    /\ E.k = "boot" /\ fit # {}
    /\ Restart(E.n, CHOOSE image \in fit : TRUE)
    /\ UNCHANGED left
    /\ queue' = [queue EXCEPT ![E.n] = <<>>]

\* Nothing but a look: it is as it should be.
Looks ==
    /\ E.k = "look"
    /\ term[E.n] = E.t /\ Len(log[E.n]) = E.l /\ commit[E.n] = E.i
    /\ (role[E.n] = "L") = (E.v = 1)
    /\ UNCHANGED <<memory, disk, dead, top, pre, xfer, leaders, committed, read, left, queue>>

Event ==
    \/ Enters \/ Campaigns \/ Votes \/ Leads \/ Rests \/ Proposes \/ Receives \/ Commits
    \/ Compacts \/ Installs \/ Syncs \/ Boots \/ Looks

-----------------------------------------------------------------------------
(* What holds after each event, as far as the event can have broken it *)

TraceSafe ==
    LET n == E.n IN
    /\ \A t \in Terms : Cardinality(led'[t]) <= 1
    /\ commit'[n] <= Len(log'[n]) /\ commit'[n] <= Len(committed')
    /\ \A i \in 1..commit'[n] : log'[n][i] = committed'[i].e
    /\ role'[n] = "L" /\ role[n] # "L" =>
           \A i \in 1..Len(committed') : committed'[i].by < term'[n] =>
               i <= Len(log'[n]) /\ log'[n][i] = committed'[i].e

TraceNext ==
    /\ place <= Len(Traces[number])
    /\ Event /\ TraceSays /\ TraceSafe
    /\ place' = place + 1 /\ UNCHANGED number
    /\ place = Len(Traces[number]) => PrintT(<<"consumed", number>>)

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, number, place, queue>>
=============================================================================
