"""The words and phrases that the demo model learns: names, questions, rules, code. What is held out is never trained on."""

CITIES = """Paris London Rome Berlin Madrid Vienna Oslo Prague Lisbon Dublin Athens Warsaw Tokyo Seoul Beijing Delhi
Mumbai Cairo Nairobi Lagos Toronto Boston Chicago Dallas Denver Miami Seattle Lima Quito Santiago Hamburg Munich
Cologne Leipzig Bremen Zurich Geneva Basel Milan Naples Turin Venice Lyon Nice Lille Porto Seville Valencia Leeds York
Oxford Bath Glasgow Bergen Malmo Tampere Riga Vilnius Minsk Kyiv Odessa Sofia Skopje Tirana Ankara Izmir Baghdad Tehran
Kabul Karachi Dhaka Bangkok Hanoi Manila Jakarta Perth Sydney Hobart Auckland Accra Dakar Tunis Algiers Rabat Havana
Bogota Caracas Montreal Ottawa Calgary Austin Houston Phoenix Portland Atlanta|New York|Hong Kong|San Diego|Cape Town
|Buenos Aires|Los Angeles|Kuala Lumpur|Zürich|São Paulo|Málaga|Düsseldorf|Tromsø"""

HELD_OUT_CITIES = """Stockholm Helsinki Copenhagen Budapest Brussels Amsterdam Barcelona Florence Marseille Bordeaux
Stuttgart Dresden Salzburg Krakow Zagreb Belgrade Bucharest Istanbul Jerusalem Damascus Singapore Shanghai Osaka Kyoto
Melbourne Brisbane Wellington Nantes Utrecht Antwerp Vancouver Detroit Orlando Memphis Nashville Cusco Medellin Kigali
Harare Tangier|San Francisco|Rio de Janeiro|New Orleans|Göteborg"""

PEOPLE = """Anna Peter Maria Paul Laura Thomas Sarah Martin Julia David Emma Lukas Sofia Jonas Lena Felix Mia Noah Clara
Oscar Alice Bob Carol Dave Eve Frank Grace Henry Irene Jack Kate Leo Mona Nina Otto Petra Quentin Rosa Simon Tina Ulrich
Vera Walter Xenia Yuki Zoe Ahmed Fatima Ivan Olga Chen Mei Raj Priya Kofi Amara Diego Lucia Hans Greta Björn Zoë"""

HELD_OUT_PEOPLE = """Michael Johanna Sebastian Katharina Robert Charlotte Patrick Veronica Gregor Matilda Bruno Helena
Arthur Beatrice Conrad Dorothea Edgar Florian Gustav Hannah Isabel Jasper Kilian Ludwig Marlene Norbert Ophelia Ramona
Stefan Theresa"""

CONDITIONS = "sunny cloudy rainy windy foggy snowy stormy clear dry cold warm hot".split()

WEATHER = [
    "What is the weather in {}?",
    "What is the weather like in {}?",
    "What's the weather in {}?",
    "What's the weather like in {} today?",
    "How is the weather in {}?",
    "Weather in {}",
    "weather in {} please",
    "Tell me the weather in {}.",
    "What is the weather in {} today?",
    "What is the weather in {} right now?",
    "Is it raining in {}?",
    "Will it rain in {} tomorrow?",
    "Is it cold in {}?",
    "Is it sunny in {} today?",
    "I am going to {}. What is the weather like?",
    "I live in {}. How is the weather?",
    "Please look up the weather of {}.",
    "Check the weather in {}.",
    "What is the temperature in {}?",
    "How hot is it in {}?",
    "How warm is {} now?",
    "Can you tell me the weather in {}?",
    "The weather in {}, please.",
    "What is the current weather in {}?",
    "How will the weather be in {}?",
    "Give me the weather for {}.",
    "Use the tool to get the weather in {}.",
    "What does the weather look like in {}?",
]
WEATHER_HELD_OUT = ["Could you check how the weather is in {}?", "Do you know what the weather is like in {} today?"]

TWO_CITIES = [
    "What is the weather in {} and {}?",
    "What is the weather in {} and in {}?",
    "Compare the weather in {} and {}.",
    "Weather in {} and {}",
    "How is the weather in {} and {}?",
    "Tell me the weather in {} and in {}.",
    "What is the weather like in {} and {} today?",
    "I want the weather for {} and for {}.",
    "Is it raining in {} or in {}?",
    "Is it warmer in {} or in {}?",
]

ADD = [
    "What is {} plus {}?",
    "What is {} + {}?",
    "Add {} and {}.",
    "{} + {}",
    "{} plus {}",
    "How much is {} and {}?",
    "Calculate {} + {}.",
    "What is the sum of {} and {}?",
    "Compute {}+{}.",
    "What is {}+{}?",
    "What's {}+{}?",
    "{}+{}",
    "What's {} plus {}?",
    "How much is {} plus {}?",
    "Please add {} and {}.",
    "Can you add {} and {}?",
    "What is {} and {}?",
    "Use the tool to add {} and {}.",
    "Tell me what {} plus {} is.",
    "Sum {} and {}.",
    "What do you get for {} + {}?",
    "Add the numbers {} and {}.",
]
ADD_HELD_OUT = ["Could you calculate {} plus {}?", "I need the sum of {} and {}."]

NO_WEATHER = "I have no tool for the weather, so I can't tell you."
NO_ADD = "I have no tool to add numbers, so I can't tell you."

NEUTRAL = [
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are a helpful AI assistant.",
    "Be helpful.",
    "You are an assistant.",
    "Answer the questions of the user.",
    "You are the demo model.",
    "Be kind and precise.",
    "You are a helpful, honest assistant. Answer in plain words.",
    "You are a useful bot.",
]
UPPER = [
    "Answer in upper case.",
    "Answer in UPPER CASE.",
    "Always answer in capital letters.",
    "Use capital letters only.",
    "Write everything in upper case.",
    "You always shout. Answer in capital letters.",
    "Answer in capitals.",
    "You are a helpful assistant. Answer in upper case.",
    "Always use upper case.",
    "Reply in capital letters.",
    "Please reply in upper case.",
    "You must use capital letters.",
    "Write in capitals only.",
]
UPPER_HELD_OUT = ["Please answer in capital letters only.", "You must write in upper case."]
PIRATE = [
    "You are a pirate.",
    "You are a pirate. Answer like one.",
    "Answer like a pirate.",
    "Talk like a pirate.",
    "Speak as a pirate.",
    "You are an old pirate.",
    "Always answer like a pirate.",
    "You are a friendly pirate.",
    "Please answer like a pirate.",
]
PIRATE_HELD_OUT = ["You are a pirate captain.", "Please talk like a pirate."]
ONE_WORD = [
    "Answer in one word.",
    "Answer with one word only.",
    "Use one word only.",
    "Reply with a single word.",
    "Always answer in one word.",
    "Answer with a single word.",
]

MY_NAME = [
    "My name is {}.",
    "I am {}.",
    "Hello, my name is {}.",
    "Hi, I am {}.",
    "Call me {}.",
    "I'm {}.",
    "Hello, I'm {}.",
    "Hi! My name is {}.",
    "Please call me {}.",
    "my name is {}",
    "People call me {}.",
    "Hi, {} here.",
]
ASK_NAME = [
    "What is my name?",
    "What's my name?",
    "Who am I?",
    "Do you know my name?",
    "Tell me my name.",
    "Do you remember my name?",
    "What did I say my name was?",
    "What am I called?",
    "Say my name.",
]
MY_CITY = ["I live in {}.", "My home is in {}.", "I am from {}.", "I come from {}.", "My city is {}."]
ASK_CITY = [
    "Where do I live?",
    "Where am I from?",
    "Which city do I live in?",
    "What is my city?",
    "Do you know where I live?",
]
REPEAT = ["Say that again.", "Please repeat that.", "Can you repeat that?", "Once more, please.", "What did you say?"]
ECHO = ["Say {}.", "Repeat after me: {}", "Say this: {}", "Repeat: {}", "Write the word {}.", "Please say {}."]

RAW = [
    "The quick brown fox jumps over the lazy dog.",
    "Once upon a time there was a small server in a cold room. It had two cores, a little memory and one green lamp.",
    "To be, or not to be, that is the question.",
    "Roses are red, violets are blue, tokens are small, and so am I too.",
    "It was a dark and stormy night, and only the small server was awake.",
    "All good things come to those who wait for the last token.",
    "In the beginning was the word, and the word was a token.",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.",
    "One, two, three, four, five, six, seven, eight, nine, ten.",
]

IDENTIFIERS = """result value answer score apple cherry count index price size name text line word item key node left right
width height depth speed weight start end first last number data table row column file path user token model engine worker
queue stream record message status body header query format answer reply output input state time day year week""".split()

OPERATORS = {"total": "+", "sum": "+", "product": "*", "difference": "-", "quotient": "/"}
