"""Examples without tools: questions, rules of a system message, chats, and words to repeat."""

import random
from dataclasses import replace

from examples import Example, Message, assistant, system, think, user
from names import Names
from phrases import ASK_CITY, ASK_NAME, ECHO, MY_CITY, MY_NAME, NEUTRAL, ONE_WORD, PIRATE, REPEAT, UPPER
from subjects import Subject

THINKING = 0.3  # the share of examples in which the model is asked to think
SHORT = 12  # characters: what people type first
ORDERS = "Count Describe Explain Give Introduce List Make Name Say Show Tell Write".split()


class Questions:
    """Draws examples about the subjects."""

    def __init__(self, choice: random.Random, subjects: list[Subject], names: Names) -> None:
        self.random = choice
        self.names = names
        self.subjects = subjects
        self.worded = [subject for subject in subjects if subject.word]
        self.plain = [subject for subject in subjects if subject.plain]
        self.short = [
            (subject, short)
            for subject in subjects
            if (short := [question for question in subject.questions if len(question) <= SHORT])
        ]

    def thought(self, topic: str, example: Example, chance: float = THINKING) -> Example:
        """With a probability of `chance`, have the model think before this answer."""
        if self.random.random() < chance:
            return replace(example, answer=think(topic, example.answer), thinking=True)
        return example

    # --- questions and system messages

    def ask(self, subject: Subject) -> str:
        """A question of the subject, sometimes with a few words before it, without its capital, its mark or one word."""
        choice = self.random
        (readings,) = choice.choices(subject.patterns, [len(readings) ** 0.5 for readings in subject.patterns])
        question = choice.choice(readings)
        if not question.isascii():
            return question
        if choice.random() < 0.2:
            start = choice.choice(
                ["Please tell me: ", "Hello! ", "Hi, ", "Tell me, ", "Quick question: ", "OK. ", "And ", "So, "]
            )
            question = start + (question if start[-2] in "!." else question[0].lower() + question[1:])
        elif question.split(" ")[0] in ORDERS and choice.random() < 0.2:
            start = choice.choice(["Would you ", "I want you to ", "Just ", "Now ", "Kindly "])
            question = start + question[0].lower() + question[1:]
        if choice.random() < 0.06:
            question += choice.choice([" Thanks!", " Please."])
        words = question.split(" ")
        if len(words) > 4 and choice.random() < 0.06:
            del words[choice.randrange(len(words) - 1)]
            question = " ".join(words)
        if choice.random() < 0.15:
            question = question.lower() if choice.random() < 0.5 else question[0].lower() + question[1:]
        if choice.random() < 0.15:
            question = question.rstrip("?.!")
        # LiteLLM writes messages so for /api/generate.
        return f"### User:\n{question}\n\n" if choice.random() < 0.1 else question or "Hello"

    def neutral(self, chance: float = 0.25) -> list[Message]:
        return [system(self.random.choice(NEUTRAL))] if self.random.random() < chance else []

    def question(self) -> Example:
        subject = self.random.choice(self.subjects)
        return self.thought(subject.topic, Example(subject.answer, [*self.neutral(), user(self.ask(subject))]))

    def short_question(self) -> Example:
        """Two or three words, as they stand: greetings, thanks, "Who are you?"."""
        subject, questions = self.random.choice(self.short)
        example = Example(subject.answer, [*self.neutral(), user(self.random.choice(questions))])
        return self.thought(subject.topic, example, 0.6)

    def upper(self) -> Example:
        subject = self.random.choice(self.plain)
        return self.ruled(UPPER, subject, subject.answer.upper())

    def pirate(self) -> Example:
        subject = self.random.choice(self.plain)
        return self.ruled(PIRATE, subject, "Arr! " + subject.answer)

    def one_word(self) -> Example:
        subject = self.random.choice(self.worded)
        return self.ruled(ONE_WORD, subject, subject.word)

    def ruled(self, rules: list[str], subject: Subject, said: str) -> Example:
        example = Example(said, [system(self.random.choice(rules)), user(self.ask(subject))])
        return self.thought(subject.topic, example, 0.2)

    def named(self) -> Example:
        """The system message gives the model a name."""
        name = self.names.person()
        rule = self.random.choice(
            ["Your name is {}.", "You are {}.", "You are {}, a helpful assistant.", "You are called {}."]
        )
        question = self.random.choice(["What is your name?", "What's your name?", "Tell me your name."])
        return self.thought("who I am", Example(f"My name is {name}.", [system(rule.format(name)), user(question)]))

    # --- conversations

    def exchange(self) -> list[Message]:
        """One question and its answer, said earlier."""
        subject = self.random.choice(self.plain)
        return [user(self.ask(subject)), assistant(subject.answer)]

    def question_with_history(self) -> Example:
        return self.after_exchanges(self.question())

    def short_question_with_history(self) -> Example:
        return self.after_exchanges(self.short_question())

    def after_exchanges(self, example: Example) -> Example:
        """Put one or two questions and their answers before the example's own."""
        history = [message for _ in range(self.random.choice([1, 1, 2])) for message in self.exchange()]
        return replace(example, messages=[*example.messages[:-1], *history, example.messages[-1]])

    def remembered(self) -> Example:
        """Names and cities that the user said earlier."""
        choice = self.random
        name, city = self.names.person(), self.names.city()
        facts = [
            (
                [user(choice.choice(MY_NAME).format(name)), assistant(f"Nice to meet you, {name}.")],
                ASK_NAME,
                f"Your name is {name}.",
            ),
            (
                [user(choice.choice(MY_CITY).format(city)), assistant(f"{city} must be a fine place.")],
                ASK_CITY,
                f"You live in {city}.",
            ),
        ]
        if choice.random() < 0.35:
            facts.reverse()
        said, asked, answer = facts[0]
        topic = "the user's name" if "name" in answer else "the user's city"
        kind = choice.random()
        if kind < 0.25:
            return self.thought(topic, Example(said[1]["content"], [*self.neutral(), said[0]]))
        if kind < 0.33:
            unknown = (
                "You have not told me your name yet." if "name" in answer else "You have not told me where you live."
            )
            before = self.exchange() if choice.random() < 0.5 else []
            return self.thought(topic, Example(unknown, [*self.neutral(), *before, user(choice.choice(asked))]))
        between: list[Message] = []
        if choice.random() < 0.6:
            between = facts[1][0] if choice.random() < 0.4 else self.exchange()
        history = [*said, *between] if choice.random() < 0.8 else [*between, *said]
        return self.thought(topic, Example(answer, [*self.neutral(), *history, user(choice.choice(asked))]))

    def again(self) -> Example:
        exchange = self.exchange()
        messages = [*self.neutral(), *exchange, user(self.random.choice(REPEAT))]
        return self.thought("my last answer", Example(exchange[1]["content"], messages))

    def echo(self) -> Example:
        """Words to repeat: from the long ones the model learns to copy at all."""
        choice = self.random
        kinds = [
            self.names.invented,
            self.names.person,
            self.names.city,
            self.names.identifier,
            lambda: str(self.names.number()),
        ]
        words = " ".join(choice.choice(kinds)() for _ in range(choice.choice([1, 1, 2, 3, 5, 8, 12])))
        example = Example(words, [*self.neutral(0.1), user(choice.choice(ECHO).format(words))])
        return self.thought("words to repeat", example, 0.1)
