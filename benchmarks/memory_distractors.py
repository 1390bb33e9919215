"""Memories with distractors: others that share words or the subject with a question, and do not answer it.

Parameters are chosen with `TUNING`; `HELD_OUT` is only for the figures that are published, so nobody looks at its
questions while choosing. Both were written for this benchmark, and share no subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the memory that answers it, and memories that only look as if they did."""

    question: str
    answer: str
    distractors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A fact, the newer one that contradicts it, and a question that the newer one answers."""

    question: str
    older: str
    newer: str


@dataclass(frozen=True, slots=True)
class MemorySet:
    """One user's memories, as questions about them; all texts are in one scope."""

    asked: tuple[Asked, ...]
    changed: tuple[Changed, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """All memories, oldest first: those that were contradicted before those that contradict them."""
        plain = [text for one in self.asked for text in (one.answer, *one.distractors)]
        return (*plain, *(one.older for one in self.changed), *(one.newer for one in self.changed))


def _asked(question: str, answer: str, *distractors: str) -> Asked:
    return Asked(question, answer, distractors)


TUNING: Final = MemorySet(
    asked=(
        _asked(
            "What does he drink in the morning?",
            "He starts the day with a pot of green tea",
            "He drinks a glass of red wine on Saturdays",
            "In the morning he walks the dog before work",
        ),
        _asked(
            "Which car does she own?",
            "She drives an old blue Saab",
            "Her brother wants to sell his car",
            "She does not own a bicycle any more",
        ),
        _asked(
            "When is the rent due?",
            "The landlord expects the money on the first of each month",
            "The rent was raised last year",
            "The library book is due on Friday",
        ),
        _asked(
            "What is the name of her daughter?",
            "Her little girl is called Nora",
            "Her daughter goes to school in Leeds",
            "The name of her cat is Pixel",
        ),
        _asked(
            "Who looks after the servers?",
            "Henrik is responsible for operations",
            "The servers are in a basement in Oslo",
            "Marta looks after the newsletter",
        ),
        _asked(
            "Which food makes him ill?",
            "He cannot eat anything with gluten",
            "He was ill in February",
            "His favourite food is risotto",
        ),
        _asked(
            "How does she get to work?",
            "She takes the tram to the office",
            "She works on a thesis about trams",
            "She gets up at six on working days",
        ),
        _asked(
            "Where did he go to university?",
            "He took his degree in Uppsala",
            "His sister teaches at a university",
            "He goes to the sea in summer",
        ),
        _asked(
            "What is the wifi password?",
            "Guests get onto the wireless network with 'heron-lake-22'",
            "The wifi is slow in the kitchen",
            "He forgot the password of his bank twice",
        ),
        _asked(
            "Which instrument does the son play?",
            "The boy has trumpet lessons on Thursdays",
            "The son plays football in a club",
            "She sold her old instrument, a viola",
        ),
        _asked(
            "What time does the shop close?",
            "The store is open until half past seven",
            "The shop was closed in August",
            "The time zone of the shop's owner is UTC+2",
        ),
        _asked(
            "Does she like spicy dishes?",
            "She always asks for extra chilli",
            "She does not like her new dishes from the catalogue",
            "The spicy sauce is in the cupboard",
        ),
        _asked(
            "What is he afraid of?",
            "Spiders make him panic",
            "He is afraid that the bus will be late",
            "He is not a member of any club",
        ),
        _asked(
            "How many employees does the firm have?",
            "About forty people work there",
            "The firm pays its employees on the 25th",
            "The firm has offices in two cities",
        ),
        _asked(
            "Which language does the client use for the API?",
            "The customer's integration is written in Kotlin",
            "The client speaks the Danish language",
            "The API uses JSON for errors",
        ),
        _asked(
            "What did the dentist say?",
            "At the dental check-up they found a cavity on the upper left",
            "He said that the dentist is expensive",
            "The dentist moved to another street",
        ),
        _asked(
            "Where are the spare keys?",
            "The neighbour in flat 4 keeps a second set for the door",
            "The spare tyre is in the garage",
            "He lost the keys of the office once",
        ),
        _asked(
            "What is her job?",
            "She is a paediatric nurse",
            "Her husband's job is to teach",
            "She wants a job with less travel",
        ),
        _asked(
            "When do the holidays begin?",
            "From 3 July on they are off for three weeks",
            "The holidays in Spain were too hot",
            "The course begins at nine",
        ),
        _asked(
            "What size are his shoes?",
            "Footwear: he needs a European 44",
            "His shoes are always muddy",
            "The size of the garden is 300 square metres",
        ),
        _asked(
            "error code E-4471",
            "The boiler shows E-4471 when the pressure is low",
            "The boiler shows E-4417 when the fan is blocked",
            "The code of the alarm is on the boiler",
        ),
        _asked(
            "order 20931",
            "The parcel with number 20931 went to the wrong address",
            "The parcel with number 20913 came back",
            "She placed an order for two chairs",
        ),
        _asked(
            "How does she want to be addressed?",
            "Please call her Dr. Lind, not by her first name",
            "Her address is 12 Quay Street",
            "She wants to be paid in euros",
        ),
        _asked(
            "Which team does he support?",
            "He is a lifelong fan of Ajax",
            "The support team is on holiday",
            "He leads a team of five",
        ),
        _asked(
            "When is Emma's birthday?",
            "Emma's birthday is on 3 May",
            "Paul's birthday is on 9 August",
            "Emma's party was at the pool",
        ),
        _asked(
            "Where does Aunt Ruth live?",
            "Aunt Ruth has a house in Bergen",
            "Uncle Otto has a house in Malaga",
            "Aunt Ruth and Uncle Otto are divorced",
        ),
        _asked(
            "What is Tariq allergic to?",
            "Tariq is allergic to cashews",
            "Mina is allergic to pollen",
            "Tariq works in an allergy clinic",
        ),
        _asked(
            "Which version of Node do we run in staging?",
            "Staging runs Node 20",
            "Production runs Node 18",
            "Staging is rebuilt every night",
        ),
        _asked(
            "Who leads the Falcon project?",
            "The Falcon project is led by Ines",
            "The Heron project is led by Ravi",
            "The Falcon project has a budget of 2 million",
        ),
        _asked(
            "What does Bella eat?",
            "Bella the parrot gets seeds and fruit",
            "Rex the dog gets dry food",
            "Bella likes to sit on the curtain rail",
        ),
        _asked(
            "When does the Madrid office open?",
            "The office in Madrid opens at nine",
            "The office in Porto opens at eight",
            "The Madrid office has a roof terrace",
        ),
        _asked(
            "What is the limit of the Visa card?",
            "The limit of the Visa card is 3,000 euros",
            "The limit of the Mastercard is 1,000 euros",
            "The Visa card expires in May",
        ),
        _asked(
            "How does Grandma take her tea?",
            "Grandma takes her tea with lemon",
            "Grandpa takes his tea with rum",
            "Grandma grows herbs for tea",
        ),
        _asked(
            "Which seat does Omar book on trains?",
            "On trains Omar books an aisle seat",
            "On planes Omar books a window seat",
            "Omar works while he is on the train",
        ),
        _asked(
            "What happened to the kitchen tap?",
            "The kitchen tap drips and needs a new washer",
            "The bathroom tap was replaced last week",
            "The kitchen was painted in spring",
        ),
        _asked(
            "What does Lena study?",
            "Lena studies chemistry in Basel",
            "Felix studies law in Bonn",
            "Lena shares a flat with two students",
        ),
        _asked(
            "Who is on call on Friday?",
            "On Friday Dana is on call",
            "On Thursday Boris is on call",
            "On Friday there is a release",
        ),
        _asked(
            "How much does the Pro plan cost?",
            "The Pro plan costs 40 euros a month",
            "The Team plan costs 25 euros a month",
            "The Pro plan includes support by phone",
        ),
    ),
    changed=(
        Changed("Where does she live?", "She lives in Ghent", "She has moved to Antwerp and lives there now"),
        Changed("What is his favourite drink?", "His favourite drink is cola", "His favourite drink is now coffee"),
        Changed("Which plan is he on?", "He is on the basic plan", "He upgraded from the basic to the family plan"),
        Changed(
            "When is the weekly call?",
            "The weekly call is on Monday at ten",
            "The weekly call has moved from Monday to Wednesday at two",
        ),
        Changed("Who is her manager?", "Her manager is Piotr", "Her manager is Leila since Piotr left"),
        Changed("Does he eat meat?", "He eats meat almost every day", "He has stopped eating meat"),
        Changed(
            "What is her phone number?",
            "Her phone number is 555-0147",
            "Her phone number has changed to 555-0199",
        ),
        Changed("Which editor does he use?", "He uses Vim as his editor", "He switched his editor from Vim to Zed"),
        Changed("Is she married?", "She is engaged to Tom", "She married Tom in spring"),
        Changed("How old is the baby?", "The baby is three months old", "The baby is a year old now"),
    ),
)

HELD_OUT: Final = MemorySet(
    asked=(
        _asked(
            "Which airline does she prefer?",
            "She always flies with Lufthansa when she can",
            "She prefers trains on short distances",
            "The airline lost her brother's luggage",
        ),
        _asked(
            "What pets do they have?",
            "Two rabbits live in their garden",
            "They do not have a garden shed",
            "Their pets' vet retired",
        ),
        _asked(
            "When does the lease end?",
            "The contract for the flat runs out in October 2027",
            "The lease was signed by both sisters",
            "The film ends with a wedding",
        ),
        _asked(
            "What is his wife's profession?",
            "His spouse works as an architect",
            "His wife's car is in the workshop",
            "He changed his profession at forty",
        ),
        _asked(
            "Who approves travel expenses?",
            "Ms Okafor signs off on trips and their costs",
            "Travel to Asia is expensive this year",
            "The editor approves each headline",
        ),
        _asked(
            "Which medicine must she not get?",
            "Penicillin gives her a rash",
            "She must take her medicine after breakfast",
            "She did not get the letter",
        ),
        _asked(
            "Which backup tool is in use?",
            "Nightly copies of the data are made with restic",
            "The tool for drawing is in the drawer",
            "The backup generator is used twice a year",
        ),
        _asked(
            "What sport does he do?",
            "He rows on the lake three times a week",
            "He watches sport on Sundays",
            "What he does for a living is a secret",
        ),
        _asked(
            "Where did they spend their honeymoon?",
            "After the wedding they went to Iceland",
            "They spend a lot on honey",
            "They spent Easter in a hut",
        ),
        _asked(
            "What is the code for the front door?",
            "To get into the building, type 7702",
            "The front door is painted red",
            "The code review is at noon",
        ),
        _asked(
            "Which school does the boy attend?",
            "The child is a pupil at Elm Park Primary",
            "The boy does not like the school bus",
            "She attends an evening class",
        ),
        _asked(
            "How long does delivery take?",
            "Parcels arrive within four working days",
            "The delivery van is electric",
            "The test takes a long hour",
        ),
        _asked(
            "What should not be served to him?",
            "He is intolerant of lactose",
            "He was served with a fine",
            "Dinner is served at eight",
        ),
        _asked(
            "Who is the contact at the bank?",
            "Mr Petrov handles their account and loans",
            "The bank is next to the river",
            "The contact form has five fields",
        ),
        _asked(
            "What cloud do they run on?",
            "Everything is hosted in Google's data centre in Finland",
            "They run in the park, even under a cloud",
            "The cloud bill is paid by card",
        ),
        _asked(
            "How tall is he?",
            "His height is 1.92 m",
            "He built a tall fence",
            "How he got the job is a long story",
        ),
        _asked(
            "Which colours does she like for the living room?",
            "For the lounge she wants sage and cream",
            "The living room has no colour television",
            "She likes her new room mate",
        ),
        _asked(
            "What does he collect?",
            "His hobby is old postage stamps",
            "The bin lorry collects on Tuesdays",
            "He does the accounts himself",
        ),
        _asked(
            "When is the performance review?",
            "His boss assesses him every January",
            "The review of the play was harsh",
            "The performance of the query is poor",
        ),
        _asked(
            "What is the dog's name?",
            "Their terrier answers to Waffles",
            "The dog's bed is under the stairs",
            "The name of the street is Dog Lane",
        ),
        _asked(
            "ticket OPS-318",
            "OPS-318 is about certificates that expire",
            "OPS-381 is about slow exports",
            "The ticket for the concert is in her bag",
        ),
        _asked(
            "invoice 77-2045",
            "The client refused to pay 77-2045 before March",
            "The client paid 77-2054 at once",
            "An invoice is sent on the last day of the month",
        ),
        _asked(
            "Does she drink alcohol?",
            "She is teetotal",
            "She does drink a lot of water",
            "Alcohol is used to clean the lens",
        ),
        _asked(
            "In what tone should replies be written?",
            "Answers to her ought to be formal and brief",
            "The ring tone should be quieter",
            "Replies are written by a robot at night",
        ),
        _asked(
            "When does Sofia's train leave?",
            "Sofia's train leaves at 17:40",
            "Mark's train leaves at 18:10",
            "Sofia likes to be at the station early",
        ),
        _asked(
            "What does Kenji do for a living?",
            "Kenji repairs violins",
            "Yuki repairs bicycles",
            "Kenji lives above his shop",
        ),
        _asked(
            "Where is the Lyon warehouse key?",
            "The key of the warehouse in Lyon is with the guard",
            "The key of the warehouse in Turin is in a safe",
            "The warehouse in Lyon is insured",
        ),
        _asked(
            "What is Greta's blood group?",
            "Greta's blood group is A positive",
            "Nils has the blood group B negative",
            "Greta gives blood twice a year",
        ),
        _asked(
            "Which port does the billing service use?",
            "The billing service listens on port 8443",
            "The search service listens on port 9200",
            "The billing service is written in Go",
        ),
        _asked(
            "What gift would Carmen like?",
            "Carmen wishes for a telescope",
            "Luis wishes for a drone",
            "Carmen gave everybody books as a gift",
        ),
        _asked(
            "How is the Oslo trip paid?",
            "The trip to Oslo is paid by the customer",
            "The trip to Riga is paid by the company",
            "The trip to Oslo takes three days",
        ),
        _asked(
            "Who maintains the parser library?",
            "The parser library is maintained by Anouk",
            "The plot library is maintained by Sven",
            "The parser library has two known bugs",
        ),
        _asked(
            "What is Dr. Weiss's consulting time?",
            "Dr. Weiss sees patients on Tuesday mornings",
            "Dr. Amin sees patients on Thursday evenings",
            "Dr. Weiss's practice is in the old mill",
        ),
        _asked(
            "Which bike does Tessa ride?",
            "Tessa rides a red racing bike",
            "Jonah rides a folding bike",
            "Tessa was hit by a bike once",
        ),
        _asked(
            "When was the roof of the barn repaired?",
            "The roof of the barn was repaired in 2022",
            "The roof of the house was repaired in 2017",
            "Owls live under the roof of the barn",
        ),
        _asked(
            "What is the deadline for the Nordea offer?",
            "The offer to Nordea is due on 12 March",
            "The offer to Ikea is due on 2 April",
            "Nordea wants the offer in English",
        ),
        _asked(
            "How many eggs go into Nana's cake?",
            "Nana's cake needs six eggs",
            "Nana's pancakes need two eggs",
            "Nana buys her eggs at the farm",
        ),
        _asked(
            "What does Milo call his boat?",
            "Milo's boat is called Petrel",
            "Ada's boat is called Curlew",
            "Milo's boat has a new sail",
        ),
    ),
    changed=(
        Changed("Where does he work?", "He works at Siemens", "He left Siemens and works at Bosch now"),
        Changed(
            "What is her favourite season?", "Her favourite season is winter", "Her favourite season is now autumn"
        ),
        Changed("When does the gym open?", "The gym opens at seven", "The gym changed its hours and opens at six"),
        Changed("Does she smoke?", "She smokes a pack a day", "She does not smoke any more"),
        Changed(
            "What is the budget for the kitchen?",
            "The budget for the kitchen is 8,000 euros",
            "The budget for the kitchen was cut to 5,500 euros",
        ),
        Changed(
            "Which laptop does he have?", "He has a ThinkPad as his laptop", "He replaced his laptop with a MacBook"
        ),
        Changed(
            "Who teaches her piano?",
            "Her piano teacher is Mrs Bauer",
            "Her piano teacher is Mr Sato instead of Mrs Bauer",
        ),
        Changed(
            "Which database do they use?", "They use MySQL as their database", "They migrated the database to Postgres"
        ),
        Changed("What is his email address?", "His email is jan@old.example", "His new email is jan@new.example"),
        Changed("Is the project on time?", "The project is on time", "The project is six weeks late"),
    ),
)
